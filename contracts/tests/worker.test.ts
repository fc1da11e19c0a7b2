// The worker contract, operation by operation, with the proxy contract behind it.

import assert from 'node:assert/strict';
import { before, beforeEach, describe, it } from 'node:test';
import { beginCell, type Cell } from '@ton/core';
import type { BlockchainSnapshot } from '@ton/sandbox';
import { body, OP, order } from './support/cells.ts';
import { keyOf, received, refuses, run, succeeds, ton, Worker, World } from './support/world.ts';

const [PRICE, FEE] = [20n, 15n];
let kept: bigint;
let world: World;
let worker: Worker;
let start: BlockchainSnapshot;

before(async () => {
    world = await World.create();
    const client = await world.client('client');
    await client.topUp(ton('10'));
    worker = await world.worker('worker');
    kept = await world.balance(worker.address);
    start = world.chain.snapshot();
});

beforeEach(() => world.chain.loadFrom(start));

const signed = (op: number, tokens: bigint, options = {}) => world.sign(op, worker.address, worker.owner.address, tokens, options);
const register = () => body(OP.workerRegister, 6n, (b) => b.storeAddress(worker.owner.address));
const BODIES: Record<string, () => Cell> = {
    'register': register,
    'payout': () => signed(OP.workerPayout, 100n),
    'last payout': () => signed(OP.workerLastPayout, 100n),
};

describe('worker, all operations', () => {
    for (const [name, cell] of Object.entries(BODIES)) {
        it(`${name}: needs more than 0.1 TON, to the nanoton`, async () => {
            await refuses(world, worker.address, 1003, () => worker.send(cell(), ton('0.1')));
            await succeeds(world, worker.address, () => worker.send(cell(), ton('0.1') + 1n));
        });

        it(`${name}: refuses one bit too many`, async () => {
            const longer = beginCell().storeSlice(cell().beginParse()).storeBit(0).endCell();
            await refuses(world, worker.address, 9, () => worker.send(longer, ton('1')));
        });

        it(`${name}: a closed contract refuses it`, async () => {
            await worker.land(OP.workerLastPayout, 100n);
            assert.equal((await worker.state()).state, 2);
            await refuses(world, worker.address, 1006, () => worker.send(cell(), ton('1')));
        });
    }

    it('registers for its owner only: one nanoton to the proxy account, the rest back', async () => {
        await refuses(world, worker.address, 1010, () => worker.send(register(), ton('1'), world.stranger));
        const pot = await world.balance(world.proxy);
        const sent = await succeeds(world, worker.address, () => worker.send(register(), ton('0.5')));
        assert.equal(await world.balance(world.proxy), pot + 1n);
        assert.equal(run(sent, world.proxy).computePhase.type, 'skipped');
        assert.equal(await world.balance(worker.address), kept);
        assert.ok(received(sent, worker.owner.address, OP.excess)[0]!.value > ton('0.49'));
    });

    it('accepts money and notes, refuses what it does not know', async () => {
        await succeeds(world, worker.address, () => worker.send(beginCell().endCell(), ton('1')));
        await succeeds(world, worker.address, () => worker.send(body(OP.doNotProcess, 1n), ton('1')));
        await refuses(world, worker.address, 1012, () => worker.send(body(0x11223344, 1n), ton('1')));
        await refuses(world, worker.address, 9, () => worker.send(beginCell().storeUint(1, 32).endCell(), ton('1')));
    });
});

describe('worker, payout', () => {
    it("pays the fee to the owner, books the proxy's part, returns the rest to the carrier", async () => {
        const [pot, before] = [await world.balance(world.proxy), await world.proxyState()];
        const sent = await succeeds(world, worker.address, () => worker.land(OP.workerPayout, 1_000n, ton('0.5'), world.stranger));
        const [payout] = received(sent, worker.owner.address, OP.payout);
        assert.ok(payout!.from.equals(world.proxy));
        assert.equal(payout!.value, 1_000n * FEE);
        const after = await world.proxyState();
        assert.equal(after.balance, before.balance + 1_000n * (PRICE - FEE));
        assert.equal(after.pool, before.pool - 1_000n * PRICE);
        assert.equal(await world.balance(world.proxy), pot - 1_000n * FEE);
        assert.equal(await world.balance(worker.address), kept);
        const [excess] = received(sent, world.stranger.address, OP.excess);
        assert.ok(excess!.value > ton('0.48') && excess!.value < ton('0.5'));
        assert.deepEqual(await worker.state(), { state: 0, tokens: 1_000n });
    });

    it('pays each token once', async () => {
        await worker.land(OP.workerPayout, 1_000n);
        for (const tokens of [0n, 999n, 1_000n]) {
            await refuses(world, worker.address, 1000, () => worker.land(OP.workerPayout, tokens));
        }
        const sent = await worker.land(OP.workerPayout, 1_001n);
        assert.equal(received(sent, worker.owner.address, OP.payout)[0]!.value, FEE);
    });

    it('tells the proxy contract state and total after it', async () => {
        const sent = await worker.land(OP.workerPayout, 1_000n);
        const [request] = received(sent, world.proxy, OP.workerRequest);
        const s = request!.body.beginParse().skip(32 + 64);
        assert.ok(s.loadAddress().equals(worker.owner.address));
        assert.deepEqual([s.loadUint(2), s.loadUint(64)], [0, 1_000]);
        const payload = s.loadMaybeRef()!.beginParse();
        assert.deepEqual([payload.loadUint(32), payload.loadCoins(), payload.loadCoins()], [OP.payloadPayout, 15_000n, 5_000n]);
        assert.ok(payload.loadAddress().equals(worker.owner.address));
        payload.endParse();
        s.endParse();
    });

    it('fails while the price is below the fee', async () => {
        const cheap = await World.create({ params: { price: 14n } });
        const poor = await cheap.worker('worker');
        await refuses(cheap, poor.address, 5, () => poor.land(OP.workerPayout, 1n));
    });
});

describe('worker, last payout', () => {
    it('pays what is left, closes, and gives the reserve to the owner', async () => {
        await worker.land(OP.workerPayout, 1_000n);
        const sent = await succeeds(world, worker.address, () => worker.land(OP.workerLastPayout, 1_500n, ton('0.5'), world.stranger));
        assert.equal(received(sent, worker.owner.address, OP.payout)[0]!.value, 500n * FEE);
        assert.deepEqual(await worker.state(), { state: 2, tokens: 1_500n });
        assert.deepEqual(received(sent, worker.owner.address, OP.excess).map(({ value }) => value), [kept - ton('0.01')]);
        assert.equal(await world.balance(worker.address), ton('0.01'));
        assert.ok(received(sent, world.stranger.address, OP.excess)[0]!.value < ton('0.5'));
    });

    it('accepts the total already paid, and not one below', async () => {
        await worker.land(OP.workerPayout, 1_000n);
        await refuses(world, worker.address, 1000, () => worker.land(OP.workerLastPayout, 999n));
        const sent = await succeeds(world, worker.address, () => worker.land(OP.workerLastPayout, 1_000n));
        assert.equal(received(sent, worker.owner.address, OP.payout)[0]!.value, 0n);
    });
});

describe('worker, signed orders', () => {
    for (const [name, op] of [['payout', OP.workerPayout], ['last payout', OP.workerLastPayout]] as const) {
        it(`${name}: refuses what was not signed like this, for this contract, by this key`, async () => {
            const other = await world.worker('other');
            const at = (cell: Cell) => () => worker.send(cell, ton('0.5'));
            await refuses(world, worker.address, 1007, at(order(keyOf('another'), op, worker.address, worker.owner.address, 5n)));
            await refuses(world, worker.address, 1005, at(signed(op, 5n, { envelopeQueryId: 78n })));
            const otherOp = op === OP.workerPayout ? OP.workerLastPayout : OP.workerPayout;
            await refuses(world, worker.address, 1005, at(signed(otherOp, 5n, { envelopeOp: op })));
            await refuses(world, worker.address, 9, at(signed(op, 5n, { trailing: 1 })));
            await refuses(world, worker.address, 1015, at(world.sign(op, other.address, worker.owner.address, 5n)));
        });
    }

    it('checks state, signature, value, address, counter in this order', async () => {
        await worker.land(OP.workerPayout, 10n);
        const other = await world.worker('other');
        const bad = (key = world.key) => order(key, OP.workerPayout, other.address, worker.owner.address, 5n);
        await refuses(world, worker.address, 1007, () => worker.send(bad(keyOf('x')), ton('0.05')));
        await refuses(world, worker.address, 1003, () => worker.send(bad(), ton('0.05')));
        await refuses(world, worker.address, 1015, () => worker.send(bad(), ton('0.5')));
        await worker.land(OP.workerLastPayout, 10n);
        await refuses(world, worker.address, 1006, () => worker.send(bad(keyOf('x')), ton('0.05')));
    });
});

describe('worker, get method', () => {
    it('tells everything it stores', async () => {
        await worker.land(OP.workerPayout, 7n);
        const stack = (await world.chain.runGetMethod(worker.address, 'get_cocoon_worker_data')).stackReader;
        assert.ok(stack.readAddress().equals(worker.owner.address));
        assert.ok(stack.readAddress().equals(world.proxy));
        assert.equal(stack.readBigNumber(), BigInt('0x' + world.key.publicKey.toString('hex')));
        assert.deepEqual([stack.readNumber(), stack.readNumber(), stack.remaining], [0, 7, 0]);
    });
});
