// The proxy contract's own operations, and what it refuses to do for clients and workers that are not its own.

import assert from 'node:assert/strict';
import { before, beforeEach, describe, it } from 'node:test';
import { beginCell, type Address, type Cell } from '@ton/core';
import type { BlockchainSnapshot } from '@ton/sandbox';
import { body, OP, order, text } from './support/cells.ts';
import { keyOf, received, refuses, START, succeeds, ton, World, type Client, type Wallet, type Worker } from './support/world.ts';

let world: World;
let client: Client;
let worker: Worker;
let owner: Wallet;
let start: BlockchainSnapshot;

before(async () => {
    world = await World.create();
    client = await world.client('client');
    worker = await world.worker('worker');
    owner = world.proxyOwner;
    await client.topUp(ton('10'));
    start = world.chain.snapshot();
});

beforeEach(() => world.chain.loadFrom(start));

const send = (cell: Cell, value = ton('0.5'), from = owner) => world.send({ from, to: world.proxy, value, body: cell });
const toOwner = (op: number, excess: Address = owner.address) => body(op, 9n, (b) => b.storeAddress(excess));
const stake = (amount: bigint) => body(OP.increaseProxyStake, 9n, (b) => b.storeCoins(amount).storeAddress(owner.address));
const signed = (op: number, options = {}) => world.sign(op, world.proxy, owner.address, undefined, options);
const earn = async (tokens: bigint) => worker.land(OP.workerPayout, tokens);
const code = (expected: number, cell: Cell, value?: bigint, from?: Wallet) =>
    refuses(world, world.proxy, expected, () => send(cell, value, from));

describe('proxy, stake', () => {
    it('grows by what anyone sends for it', async () => {
        const [pot, before] = [await world.balance(world.proxy), (await world.proxyState()).stake];
        const sent = await succeeds(world, world.proxy, () => send(stake(ton('3')), ton('3.2'), world.stranger));
        assert.equal((await world.proxyState()).stake, before + ton('3'));
        assert.equal(await world.balance(world.proxy), pot + ton('3'));
        assert.equal(received(sent, owner.address, OP.excess).length, 1);
    });

    it('needs its amount and 0.1 TON, to the nanoton', async () => {
        await code(1003, stake(ton('3')), ton('3.1') - 1n);
        await succeeds(world, world.proxy, () => send(stake(ton('3')), ton('3.1')));
    });

    it('below the least one, no top-up is taken; at it, it is', async () => {
        const poor = await World.create({ stake: 20_000_000_000n - 1n });
        const guest = await poor.client('guest');
        const sent = await guest.topUp(ton('2'));
        assert.equal(received(sent, guest.owner.address, OP.payout)[0]!.value, ton('2'));
        assert.deepEqual([(await guest.state()).balance, (await poor.proxyState()).pool], [0n, 0n]);
        await poor.increaseProxyStake(1n);
        await succeeds(poor, guest.address, () => guest.topUp(ton('2')));
        assert.deepEqual([(await guest.state()).balance, (await poor.proxyState()).pool], [ton('2'), ton('2')]);
    });
});

describe("proxy, owner's payout", () => {
    it('pays what was earned to the owner, whoever asks', async () => {
        await earn(1_000_000n);
        const pot = await world.balance(world.proxy);
        const sent = await succeeds(world, world.proxy, () => send(toOwner(OP.ownerPayout, world.stranger.address), ton('0.2'), world.stranger));
        assert.equal(received(sent, owner.address, OP.payout)[0]!.value, 5_000_000n);
        assert.equal(received(sent, world.stranger.address, OP.excess).length, 1);
        assert.equal((await world.proxyState()).balance, 0n);
        assert.equal(await world.balance(world.proxy), pot - 5_000_000n);
    });

    it('needs 0.1 TON, to the nanoton', async () => {
        await code(1003, toOwner(OP.ownerPayout), ton('0.1') - 1n);
        await succeeds(world, world.proxy, () => send(toOwner(OP.ownerPayout), ton('0.1')));
    });

    it('by text: one message with everything', async () => {
        await earn(1_000_000n);
        const pot = await world.balance(world.proxy);
        await code(1003, text('w'), ton('0.1') - 1n);
        const sent = await succeeds(world, world.proxy, () => send(text('w'), ton('0.1')));
        const [payout] = received(sent, owner.address, OP.payout);
        assert.ok(payout!.value > ton('0.1'));
        assert.equal(payout!.body.beginParse().skip(32).loadUint(64), 0);
        assert.equal(await world.balance(world.proxy), pot - 5_000_000n);
    });
});

describe('proxy, closing', () => {
    const ways: [string, () => Cell][] = [
        ["owner's message", () => toOwner(OP.ownerClose)],
        ['signed order', () => signed(OP.signedClose)],
        ['text', () => text('c')],
    ];
    for (const [name, cell] of ways) {
        it(`${name}: begins the delay, once`, async () => {
            await code(1003, cell(), ton('0.1') - 1n);
            const pot = await world.balance(world.proxy);
            const sent = await succeeds(world, world.proxy, () => send(cell(), ton('0.1')));
            assert.equal(await world.balance(world.proxy), pot);
            assert.equal(received(sent, owner.address, OP.excess).length, 1);
            assert.deepEqual([(await world.proxyState()).state, (await world.proxyState()).unlockTs], [1, START + 600]);
            await code(1006, cell());
        });
    }

    it('is not for strangers, unless they have the order', async () => {
        await code(1010, toOwner(OP.ownerClose), ton('1'), world.stranger);
        await code(1010, text('c'), ton('1'), world.stranger);
        await code(1010, text('w'), ton('1'), world.stranger);
        await succeeds(world, world.proxy, () => send(signed(OP.signedClose), ton('1'), world.stranger));
    });

    it('is complete after the delay and not before', async () => {
        await code(1006, signed(OP.completeClose));
        await send(signed(OP.signedClose));
        world.pass(599);
        await code(1011, signed(OP.completeClose));
        world.pass(1);
        await code(1003, signed(OP.completeClose), ton('0.1') - 1n);
        await succeeds(world, world.proxy, () => send(signed(OP.completeClose), ton('0.1')));
        assert.deepEqual(
            { ...(await world.proxyState()), pool: 0n },
            { state: 2, balance: 0n, stake: 0n, unlockTs: 0, pool: 0n },
        );
        await code(1006, signed(OP.completeClose));
        await code(1006, signed(OP.signedClose));
        await code(1006, stake(1n), ton('1'));
    });

    it('gives the owner everything when all clients have left', async () => {
        await client.land(OP.grantRefund, 0n);
        await send(signed(OP.signedClose));
        world.pass(600);
        const sent = await send(signed(OP.completeClose), ton('0.2'), world.stranger);
        assert.equal(await world.balance(world.proxy), ton('0.01'));
        assert.ok(received(sent, owner.address, OP.payout)[0]!.value > ton('20.4'));
        assert.equal(received(sent, world.stranger.address, OP.excess).length, 0);
        assert.equal((await world.data(world.proxy)).refs.length, 1, 'and its data has the deployed layout');
        await code(1006, toOwner(OP.ownerPayout));
        await code(1006, text('w'));
    });

    it('refuses orders that were not signed like this, for this contract, by this key', async () => {
        for (const op of [OP.signedClose, OP.completeClose]) {
            const other = op === OP.signedClose ? OP.completeClose : OP.signedClose;
            await code(1007, order(keyOf('x'), op, world.proxy, owner.address));
            await code(1005, signed(op, { envelopeQueryId: 78n }));
            await code(1005, signed(other, { envelopeOp: op }));
            await code(9, signed(op, { trailing: 1 }));
        }
        await code(1015, world.sign(OP.signedClose, client.address, owner.address));
        await send(signed(OP.signedClose));
        world.pass(600);
        await code(1015, world.sign(OP.completeClose, client.address, owner.address));
        await code(1007, order(keyOf('x'), OP.completeClose, client.address, owner.address), ton('0.05'));
    });
});

describe('proxy, what others send', () => {
    const request = (payload: Cell | null, who: Address = client.owner.address) =>
        body(OP.clientRequest, 1n, (b) => b.storeAddress(who).storeRef(beginCell().endCell()).storeMaybeRef(payload));
    const payload = (op: number) => body32(op).storeCoins(ton('1')).storeAddress(owner.address).endCell();
    const body32 = (op: number) => beginCell().storeUint(op, 32);

    it('believes no request of a client contract that is not its own', async () => {
        for (const op of [OP.payloadTopUp, OP.payloadGranted, OP.payloadForced]) {
            await code(1014, request(payload(op)), ton('2'), client.owner);
        }
        await code(1014, request(null), ton('2'), client.owner);
        await code(1014, request(body32(OP.payloadRegister).storeUint(1, 64).endCell()), ton('2'), client.owner);
    });

    it('believes no payout of a worker contract that is not its own', async () => {
        const cell = (payload: Cell | null) => body(OP.workerRequest, 1n, (b) => b.storeAddress(worker.owner.address).storeUint(0, 2).storeUint(5, 64).storeMaybeRef(payload));
        const asked = body32(OP.payloadPayout).storeCoins(1).storeCoins(1).storeAddress(owner.address).endCell();
        await code(1014, cell(asked), ton('1'), worker.owner);
        await succeeds(world, world.proxy, () => send(cell(null), ton('1'), worker.owner));
    });

    it('accepts money and notes, refuses what it does not know', async () => {
        await succeeds(world, world.proxy, () => send(beginCell().endCell(), ton('1'), world.stranger));
        await succeeds(world, world.proxy, () => send(body(OP.doNotProcess, 1n, (b) => b.storeUint(0x53109c0f, 32).storeUint(1, 288)), ton('1'), world.stranger));
        await code(1012, body(0x11223344, 1n));
        await code(9, beginCell().storeUint(0x11223344, 32).endCell());
        await code(1013, text('x'));
        await code(9, text('ww'));
    });
});

describe('proxy, get methods', () => {
    it('tells everything it stores', async () => {
        await earn(10n);
        const stack = (await world.chain.runGetMethod(world.proxy, 'get_cocoon_proxy_data')).stackReader;
        assert.ok(stack.readAddress().equals(owner.address));
        assert.equal(stack.readBigNumber(), BigInt('0x' + world.key.publicKey.toString('hex')));
        assert.ok(stack.readAddress().equals(world.root));
        const rest = Array.from({ length: 9 }, () => stack.readBigNumber());
        assert.deepEqual(rest, [0n, 50n, ton('20'), 0n, 20n, 15n, ton('20'), ton('1'), 7n]);
        assert.equal(stack.remaining, 0);
    });

    it('tells what it owes to clients and workers', async () => {
        await earn(10n);
        const stack = (await world.chain.runGetMethod(world.proxy, 'get_cocoon_proxy_pool')).stackReader;
        assert.equal(stack.readBigNumber(), ton('10') - 200n);
    });
});
