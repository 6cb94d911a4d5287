// Draws the Open Peeps portraits (Pablo Stanley, CC0 1.0) that the model learns and is judged by.
//
//     npm install && node render.mjs FOLDER
//
// writes FOLDER/train.bin and FOLDER/held_out.bin: raw bytes, [count, 64, 64, 3], red-green-blue. Portrait i of a set
// is DiceBear's for the seed `${prefix}${i}`: the sets share no seed, and the same versions draw the same bytes.
import fs from 'node:fs';
import path from 'node:path';
import { portrait, styles } from './portrait.mjs';

const SETS = [
  { file: 'train.bin', prefix: 'train', count: 40000 },
  { file: 'held_out.bin', prefix: 'val', count: 2000 },
];
const STYLE = {
  backgroundColor: ['b6e3f4', 'c0aede', 'd1d4f9', 'ffd5dc', 'ffdfbf', 'c8e6c9', 'fff3b0', 'f4b6b6'],
  headContrastColor: [
    '2c1b18', '4a312c', '724133', 'a55728', 'b58143', 'd6b370', 'c93305',
    'e8e1e1', 'ecdcbf', 'f59797', '6a4c93', '1982c4', '2a9d8f',
  ],
  clothingColor: [
    'e78276', 'ffcf77', 'fdea6b', '78e185', '9ddadb', '8fa7df',
    'e279c7', 'f4a261', '264653', 'ffffff', 'e63946', '457b9d',
  ],
  skinColor: ['ffdbb4', 'edb98a', 'd08b5b', 'ae5d29', '694d3d', 'f8d9ce'],
  scale: 110,
  translateY: 4,
  maskProbability: 0,
  facialHairProbability: 15,
  accessoriesProbability: 20,
};

const folder = process.argv[2] ?? 'data';
fs.mkdirSync(folder, { recursive: true });
for (const { file, prefix, count } of SETS) {
  const out = fs.openSync(path.join(folder, file), 'w');
  for (let i = 0; i < count; i++) fs.writeSync(out, portrait(styles.openPeeps, `${prefix}${i}`, STYLE));
  fs.closeSync(out);
}
