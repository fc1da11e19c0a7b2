// The committed code is what the sources compile to, byte for byte.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { committed, compile, CONTRACTS, FOLDER, hashes, toFile } from '../scripts/compile.ts';

for (const name of CONTRACTS) {
    test(`build/${name}.boc is what src/${name}.tolk compiles to`, async () => {
        const compiled = toFile(await compile(name));
        assert.ok(compiled.equals(readFileSync(committed(name))), 'run `npm run build` and say in the commit why the code changed');
    });
}

test('build/hashes.json names the committed code', () => {
    const golden = JSON.parse(readFileSync(join(FOLDER, 'build', 'hashes.json'), 'utf8'));
    assert.deepEqual(golden, hashes());
});
