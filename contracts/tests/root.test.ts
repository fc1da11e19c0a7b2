// The root contract: only its owner may change it, and every change shows in version, data and get methods.

import assert from 'node:assert/strict';
import { before, beforeEach, describe, it } from 'node:test';
import { Address, beginCell, Builder, Cell, Dictionary } from '@ton/core';
import type { Blockchain, BlockchainSnapshot } from '@ton/sandbox';
import { addressOf, body, OP, PARAMS, paramsCell, place, ROOT, rootInit } from './support/cells.ts';
import { CODES, exitCode, newChain, received, ton, type Wallet } from './support/world.ts';

let chain: Blockchain;
let owner: Wallet;
let stranger: Wallet;
let root: Address;
let start: BlockchainSnapshot;

before(async () => {
    chain = await newChain();
    owner = await chain.treasury('owner');
    stranger = await chain.treasury('stranger');
    const init = rootInit(owner.address, PARAMS, CODES);
    root = addressOf(init);
    await owner.send({ to: root, value: ton('0.3'), init });
    start = chain.snapshot();
});

beforeEach(() => chain.loadFrom(start));

const send = async (cell: Cell, from = owner, value = ton('0.1')) => (await from.send({ to: root, value, body: cell })).transactions.slice(1);
const message = (op: number, fields?: (b: Builder) => Builder) => body(op, 4n, fields);
const get = async (name: string, args: bigint[] = []) =>
    (await chain.runGetMethod(root, name, args.map((value) => ({ type: 'int' as const, value })))).stackReader;
const isValid = async (kind: string, hash: bigint) => (await get(`${kind}_hash_is_valid`, [hash])).readBigNumber();

async function storage() {
    const state = (await chain.getContract(root)).accountState;
    assert.equal(state?.type, 'active');
    const s = (state as { state: { data: Cell } }).state.data.beginParse();
    const [ownerAddress, version] = [s.loadAddress(), s.loadUint(32)];
    const [lists, params] = [s.loadRef(), s.loadRef()];
    s.endParse();
    const l = lists.beginParse();
    const proxyHashes = l.loadMaybeRef();
    const proxies = l.loadDict(Dictionary.Keys.Uint(32), {
        serialize: () => assert.fail('not written here'),
        parse: (v) => {
            assert.equal(v.loadUint(1), 0);
            return v.loadBuffer(v.loadUint(7)).toString();
        },
    });
    const last = l.loadUint(32);
    const hashes = [proxyHashes, l.loadMaybeRef(), l.loadMaybeRef()];
    l.endParse();
    return { owner: ownerAddress, version, proxies: [...proxies], last, hashes, params };
}

/** Sends as the owner, and checks that it succeeds, keeps nothing and moves `version` by `step`. */
async function changes(cell: Cell, step = 1) {
    const [before, balance] = [(await storage()).version, (await chain.getContract(root)).balance];
    const sent = await send(cell);
    assert.equal(exitCode(sent, root), 0);
    assert.equal((await storage()).version, before + step);
    assert.equal((await chain.getContract(root)).balance, balance);
    const [excess] = received(sent, owner.address, OP.excess);
    assert.equal(excess!.body.beginParse().skip(32).loadUint(64), 4);
}

async function refused(code: number, cell: Cell, from = owner) {
    const before = await storage();
    assert.equal(exitCode(await send(cell, from), root), code);
    assert.equal((await storage()).version, before.version);
}

describe('root', () => {
    const sets: [string, number, number][] = [
        ['worker', ROOT.addWorkerImage, ROOT.deleteWorkerImage],
        ['model', ROOT.addModel, ROOT.deleteModel],
        ['proxy', ROOT.addProxyImage, ROOT.deleteProxyImage],
    ];
    for (const [kind, add, remove] of sets) {
        it(`${kind} hashes come and go`, async () => {
            const hash = (b: Builder) => b.storeUint(77, 256);
            assert.equal(await isValid(kind, 77n), 0n);
            await changes(message(add, hash));
            await changes(message(add, (b) => b.storeUint(78, 256)));
            assert.deepEqual([await isValid(kind, 77n), await isValid(kind, 78n), await isValid(kind, 79n)], [-1n, -1n, 0n]);
            for (const other of ['worker', 'model', 'proxy'].filter((name) => name !== kind)) assert.equal(await isValid(other, 77n), 0n);
            await changes(message(remove, hash));
            await changes(message(remove, hash));
            assert.deepEqual([await isValid(kind, 77n), await isValid(kind, 78n)], [0n, -1n]);
        });
    }

    it('stores the lists in the deployed order', async () => {
        await changes(message(ROOT.addProxyImage, (b) => b.storeUint(1, 256)));
        assert.deepEqual((await storage()).hashes.map((dict) => dict !== null), [true, false, false]);
        await changes(message(ROOT.addWorkerImage, (b) => b.storeUint(1, 256)));
        assert.deepEqual((await storage()).hashes.map((dict) => dict !== null), [true, true, false]);
    });

    it('registers, replaces and unregisters proxies', async () => {
        await changes(message(ROOT.registerProxy, place('10.0.0.1:9000')));
        await changes(message(ROOT.registerProxy, place('10.0.0.2:9000 10.0.0.2:9001')));
        assert.equal((await get('last_proxy_seqno')).readNumber(), 2);
        await changes(message(ROOT.replaceProxy, (b) => place('10.0.0.3:9')(b.storeUint(1, 32))));
        assert.deepEqual((await storage()).proxies, [[1, '10.0.0.3:9'], [2, '10.0.0.2:9000 10.0.0.2:9001']]);
        await changes(message(ROOT.unregisterProxy, (b) => b.storeUint(1, 32)));
        await changes(message(ROOT.unregisterProxy, (b) => b.storeUint(1, 32)));
        assert.deepEqual((await storage()).proxies, [[2, '10.0.0.2:9000 10.0.0.2:9001']]);
        await changes(message(ROOT.registerProxy, place('x'.repeat(84))));
        assert.equal((await storage()).proxies[1]![0], 3, 'a seqno is used once');
    });

    it('refuses places it cannot store or find', async () => {
        await refused(1004, message(ROOT.registerProxy, place('10.0.0.1:9000', 1)));
        await refused(9, message(ROOT.registerProxy, (b) => place('10.0.0.1:9000')(b).storeUint(0, 8)));
        await refused(9, message(ROOT.registerProxy, (b) => b.storeBit(0).storeUint(5, 7).storeStringTail('abcd')));
        await refused(2000, message(ROOT.replaceProxy, (b) => place('a')(b.storeUint(1, 32))));
        await refused(1004, message(ROOT.replaceProxy, (b) => place('a', 1)(b.storeUint(1, 32))));
    });

    it('sets prices', async () => {
        await changes(message(ROOT.setPrices, (b) => b.storeCoins(31).storeCoins(30)));
        const expected = paramsCell({ ...PARAMS, paramsVersion: 8, price: 31n, workerFee: 30n }, CODES);
        assert.ok((await storage()).params.equals(expected));
    });

    it('sets all parameters', async () => {
        await changes(message(ROOT.setParams, (b) => b.storeCoins(3).storeCoins(2).storeUint(11, 32).storeUint(10, 32).storeCoins(5).storeCoins(4)));
        const expected = { ...PARAMS, paramsVersion: 8, price: 3n, workerFee: 2n, proxyDelay: 11, clientDelay: 10, minProxyStake: 5n, minClientStake: 4n };
        assert.ok((await storage()).params.equals(paramsCell(expected, CODES)));
    });

    it('sets contract codes', async () => {
        const codes = [1, 2, 3].map((n) => beginCell().storeUint(n, 8).endCell());
        await changes(message(ROOT.setCodes, (b) => codes.reduce((builder, code) => builder.storeRef(code), b)));
        const expected = paramsCell({ ...PARAMS, paramsVersion: 8 }, { proxy: codes[0], worker: codes[1], client: codes[2] });
        assert.ok((await storage()).params.equals(expected));
    });

    it('empties its dictionaries and keeps the last seqno', async () => {
        await changes(message(ROOT.registerProxy, place('10.0.0.1:9000')));
        for (const op of [ROOT.addModel, ROOT.addProxyImage, ROOT.addWorkerImage]) await changes(message(op, (b) => b.storeUint(7, 256)));
        await changes(message(ROOT.reset));
        const { hashes, proxies, last } = await storage();
        assert.deepEqual([hashes, proxies, last], [[null, null, null], [], 1]);
    });

    it('changes its owner at once', async () => {
        await changes(message(ROOT.changeOwner, (b) => b.storeAddress(stranger.address)));
        assert.ok((await storage()).owner.equals(stranger.address));
        await refused(1010, message(ROOT.reset));
        assert.equal(exitCode(await send(message(ROOT.reset), stranger), root), 0);
    });

    it('upgrades its code and keeps data and version', async () => {
        await changes(message(ROOT.upgradeCode, (b) => b.storeRef(CODES.wallet)), 0);
        const state = (await chain.getContract(root)).accountState;
        assert.ok(state?.type === 'active' && state.state.code!.equals(CODES.wallet));
    });

    it('replaces data and code', async () => {
        const data = beginCell().storeUint(5, 8).endCell();
        const sent = await send(message(ROOT.upgradeFull, (b) => b.storeRef(data).storeRef(CODES.wallet)));
        assert.equal(exitCode(sent, root), 0);
        const state = (await chain.getContract(root)).accountState;
        assert.ok(state?.type === 'active' && state.state.code!.equals(CODES.wallet) && state.state.data!.equals(data));
    });

    it('obeys its owner only, in everything', async () => {
        for (const op of [...Object.values(ROOT), 0x11223344]) await refused(1010, message(op), stranger);
    });

    it('accepts money and notes from anyone, refuses what it does not know and what is too long', async () => {
        assert.equal(exitCode(await send(beginCell().endCell(), stranger), root), 0);
        assert.equal(exitCode(await send(message(OP.doNotProcess), stranger), root), 0);
        await refused(1012, message(0x11223344));
        for (const op of [0x9f1e69dc, 0x29111ceb]) await refused(1012, message(op));
        await refused(9, beginCell().storeUint(ROOT.reset, 32).endCell());
        await refused(9, message(ROOT.reset, (b) => b.storeBit(1)));
        await refused(9, message(ROOT.addModel, (b) => b.storeUint(1, 257)));
        await refused(9, message(ROOT.setPrices, (b) => b.storeCoins(1)));
    });

    it('tells its parameters', async () => {
        await changes(message(ROOT.registerProxy, place('10.0.0.1:9000')));
        const data = await get('get_cocoon_data');
        const numbers = Array.from({ length: 9 }, () => data.readBigNumber());
        assert.deepEqual(numbers, [1n, 1n, 7n, 13n, 1n, 20n, 15n, ton('20'), ton('1')]);
        assert.ok(data.readAddress().equals(owner.address));
        assert.equal(data.remaining, 0);
        const params = await get('get_cur_params');
        const hash = (code: Cell) => BigInt('0x' + code.hash().toString('hex'));
        const all = Array.from({ length: 14 }, () => params.readBigNumber());
        assert.deepEqual(all, [7n, 13n, 1n, 20n, 15n, 1_000n, 80_001n, 600n, 300n, ton('20'), ton('1'), hash(CODES.proxy), hash(CODES.worker), hash(CODES.client)]);
        assert.equal(params.remaining, 0);
    });
});
