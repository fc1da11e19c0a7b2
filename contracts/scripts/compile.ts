// Compiles the contracts of src/ with the pinned Tolk compiler.

import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Cell } from '@ton/core';
import { runTolkCompiler } from '@ton/tolk-js';

export const CONTRACTS = ['root', 'proxy', 'worker', 'client', 'wallet'] as const;
export type ContractName = (typeof CONTRACTS)[number];

export const FOLDER = join(dirname(fileURLToPath(import.meta.url)), '..');

/** Reads a source file; tests pass their own to compile changed copies. */
export type ReadSource = (path: string) => string;

export const readSource: ReadSource = (path) => readFileSync(join(FOLDER, 'src', path), 'utf8');

/** The code cell of one contract. */
export async function compile(name: ContractName, read: ReadSource = readSource): Promise<Cell> {
    const result = await runTolkCompiler({ entrypointFileName: `${name}.tolk`, fsReadCallback: read });
    if (result.status === 'error') {
        throw new Error(`src/${name}.tolk does not compile: ${result.message}`);
    }
    return Cell.fromBase64(result.codeBoc64);
}

/** The file form of a code cell: a BoC without index, with its checksum. */
export function toFile(code: Cell): Buffer {
    return code.toBoc({ idx: false, crc32: true });
}

/** Where the code of a contract is: as committed, unless a test of the tests says otherwise. */
export function committed(name: ContractName): string {
    return join(process.env.COCOON_CONTRACTS_BUILD ?? join(FOLDER, 'build'), `${name}.boc`);
}

/** What build/hashes.json holds: the code hash of every contract as committed, and the compiler. */
export function hashes() {
    const codes = CONTRACTS.map((name) => {
        const code = Cell.fromBoc(readFileSync(committed(name)))[0]!;
        return [name, code.hash().toString('hex')];
    });
    return { compiler: 'tolk 1.3.0', codes: Object.fromEntries(codes) as Record<ContractName, string> };
}
