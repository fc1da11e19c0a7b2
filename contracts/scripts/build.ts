// Compiles all contracts into build/, with the hashes that the tests and the Rust side compare.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { committed, compile, CONTRACTS, FOLDER, hashes, toFile } from './compile.ts';

for (const name of CONTRACTS) {
    writeFileSync(committed(name), toFile(await compile(name)));
}
writeFileSync(join(FOLDER, 'build', 'hashes.json'), JSON.stringify(hashes(), null, 4) + '\n');
console.log(hashes());
