// DiceBear's portraits as pixels. `npm install` here first.
import { createAvatar } from '@dicebear/core';
import * as styles from '@dicebear/collection';
import { Resvg } from '@resvg/resvg-js';

export { styles };

const SIZE = 64;
const OVERSAMPLING = 2;

/** One portrait as SIZE * SIZE * 3 bytes: drawn larger, then each square of OVERSAMPLING² pixels averaged. */
export function portrait(style, seed, options) {
  const svg = createAvatar(style, { seed, ...options }).toString();
  const width = SIZE * OVERSAMPLING;
  const rgba = new Resvg(svg, { fitTo: { mode: 'width', value: width } }).render().pixels;
  const rgb = Buffer.alloc(SIZE * SIZE * 3);
  for (let y = 0; y < SIZE; y++) {
    for (let x = 0; x < SIZE; x++) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        for (let dy = 0; dy < OVERSAMPLING; dy++) {
          for (let dx = 0; dx < OVERSAMPLING; dx++) {
            sum += rgba[((y * OVERSAMPLING + dy) * width + x * OVERSAMPLING + dx) * 4 + channel];
          }
        }
        rgb[(y * SIZE + x) * 3 + channel] = Math.round(sum / OVERSAMPLING ** 2);
      }
    }
  }
  return rgb;
}
