// Every transaction of some lives, as the reference emulator of the sandbox makes them, for another TVM to make again: the
// devnet's tests read the file (crates/devnet/tests/contracts.boc, in the format of corpus.boc beside it).

import { join } from 'node:path';
import { beginCell, Cell, Dictionary } from '@ton/core';
import { FOLDER } from '../../scripts/compile.ts';
import { measure } from './gas.ts';
import { Life } from './lives.ts';
import { liveOwners } from './owners.ts';
import { executor } from './world.ts';

export const RECORD = join(FOLDER, '..', 'crates', 'devnet', 'tests', 'contracts.boc');

export async function record(): Promise<Buffer> {
    const records: Cell[] = [];
    const run = executor.runTransaction.bind(executor);
    executor.runTransaction = async (args) => {
        const answer = await run(args);
        const { result } = answer;
        const given = beginCell().storeRef(Cell.fromBase64(args.shardAccount)).storeRef(args.message);
        const cell = beginCell()
            .storeUint(args.now, 32)
            .storeUint(args.lt, 64)
            .storeBuffer(args.randomSeed ?? Buffer.alloc(32))
            .storeBit(result.success)
            .storeRef(given);
        if (result.success) {
            cell.storeRef(beginCell().storeRef(Cell.fromBase64(result.transaction)).storeRef(Cell.fromBase64(result.shardAccount)));
        }
        records.push(cell.endCell());
        return answer;
    };
    try {
        await measure();
        await Life.run(1, 40);
        await liveOwners();
    } finally {
        executor.runTransaction = run;
    }
    const packed = Dictionary.empty(Dictionary.Keys.Uint(16), Dictionary.Values.Cell());
    records.forEach((cell, index) => packed.set(index, cell));
    return beginCell().storeDictDirect(packed).endCell().toBoc({ crc32: true });
}
