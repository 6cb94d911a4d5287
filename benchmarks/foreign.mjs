// Draws portraits in twelve styles that the embedded model has never seen (benchmarks/foreign.py).
//
//     (cd weights/openpeeps64 && npm install) && node benchmarks/foreign.mjs FOLDER
//
// writes FOLDER/foreign.bin: raw bytes, [8, 12, 64, 64, 3], red-green-blue, a column per style; and FOLDER/foreign.csv:
// who drew each style, and its licence, in the words of its package.
import fs from 'node:fs';
import path from 'node:path';
import { portrait, styles } from '../weights/openpeeps64/portrait.mjs';

const STYLES = [
  'adventurer', 'bigEars', 'bigSmile', 'croodles', 'dylan', 'lorelei',
  'micah', 'miniavs', 'notionists', 'personas', 'pixelArt', 'toonHead',
];
const ROWS = 8;
const backgroundColor = ['b6e3f4', 'ffd5dc', 'ffdfbf', 'c0aede', 'a3b18a', 'e9c46a', 'e07a5f', '457b9d'];

const folder = process.argv[2] ?? 'data';
fs.mkdirSync(folder, { recursive: true });
const out = fs.openSync(path.join(folder, 'foreign.bin'), 'w');
for (let row = 0; row < ROWS; row++) {
  for (const name of STYLES) fs.writeSync(out, portrait(styles[name], `foreign${row}`, { backgroundColor }));
}
fs.closeSync(out);
const lines = STYLES.map((name) => {
  const { title, creator, license, source } = styles[name].meta;
  return [name, title, creator, license.name, source].join(',');
});
fs.writeFileSync(path.join(folder, 'foreign.csv'), ['name,title,creator,licence,source', ...lines, ''].join('\n'));
