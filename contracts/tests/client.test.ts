// The client contract, operation by operation, with the proxy contract behind it.

import assert from 'node:assert/strict';
import { before, beforeEach, describe, it } from 'node:test';
import { beginCell, type Cell } from '@ton/core';
import type { BlockchainSnapshot } from '@ton/sandbox';
import { body, OP, order } from './support/cells.ts';
import { exitCode, keyOf, received, refuses, run, START, succeeds, ton, World, type Client } from './support/world.ts';

const PRICE = 20n;
const FEE = ton('0.1');
/** What a contract deployed with 0.3 TON keeps; all tests but one leave it untouched. */
let kept: bigint;
let world: World;
let client: Client;
let start: BlockchainSnapshot;

before(async () => {
    world = await World.create();
    client = await world.client('client');
    await client.topUp(ton('10'));
    kept = await world.balance(client.address);
    start = world.chain.snapshot();
});

beforeEach(() => world.chain.loadFrom(start));

const topUp = (amount: bigint) => body(OP.topUp, 2n, (b) => b.storeCoins(amount).storeAddress(client.owner.address));
const secretAndTopUp = (amount: bigint) =>
    body(OP.changeSecretAndTopUp, 4n, (b) => b.storeCoins(amount).storeUint(99, 256).storeAddress(client.owner.address));
const secret = () => body(OP.changeSecret, 5n, (b) => b.storeUint(42, 256).storeAddress(client.owner.address));
const register = () => body(OP.clientRegister, 6n, (b) => b.storeUint(1234, 64).storeAddress(client.owner.address));
const stake = (amount: bigint) => body(OP.increaseClientStake, 7n, (b) => b.storeCoins(amount).storeAddress(client.owner.address));
const simple = (op: number) => body(op, 8n, (b) => b.storeAddress(client.owner.address));
const signed = (op: number, tokens: bigint, options = {}) => world.sign(op, client.address, client.owner.address, tokens, options);

const BODIES: Record<string, () => Cell> = {
    'top up': () => topUp(ton('1')),
    'change secret and top up': () => secretAndTopUp(ton('1')),
    'register': register,
    'change secret': secret,
    'increase stake': () => stake(ton('2')),
    'withdraw': () => simple(OP.withdraw),
    'request refund': () => simple(OP.requestRefund),
    'charge': () => signed(OP.charge, 100n),
    'grant refund': () => signed(OP.grantRefund, 100n),
};
const AMOUNTS: Record<string, bigint> = { 'top up': ton('1'), 'change secret and top up': ton('1') };

describe('client, all operations', () => {
    for (const [name, cell] of Object.entries(BODIES)) {
        it(`${name}: needs 0.1 TON beside its amount, to the nanoton`, async () => {
            const least = FEE + (AMOUNTS[name] ?? 0n);
            await refuses(world, client.address, 1003, () => client.send(cell(), least - 1n));
            await succeeds(world, client.address, () => client.send(cell(), least));
        });

        it(`${name}: a contract below its floor demands what is missing`, async () => {
            const contract = await world.account(client.address);
            contract.balance = ton('0.01');
            const least = ton('0.1') + FEE + (AMOUNTS[name] ?? 0n);
            await refuses(world, client.address, 1001, () => client.send(cell(), least - 1n));
            await succeeds(world, client.address, () => client.send(cell(), least));
        });

        it(`${name}: refuses one bit too many`, async () => {
            const longer = beginCell().storeSlice(cell().beginParse()).storeBit(0).endCell();
            await refuses(world, client.address, 9, () => client.send(longer, ton('3')));
        });

        it(`${name}: a closed contract refuses it`, async () => {
            await client.land(OP.grantRefund, 100n);
            assert.equal((await client.state()).state, 2);
            await refuses(world, client.address, 1006, () => client.send(cell(), ton('3')));
        });
    }

    it('tells owner operations from strangers', async () => {
        const codes = { 'change secret and top up': 1010, register: 1010, 'change secret': 1010, 'increase stake': 1010, withdraw: 1009, 'request refund': 1009 };
        for (const [name, code] of Object.entries(codes)) {
            await refuses(world, client.address, code, () => client.send(BODIES[name]!(), ton('3'), world.stranger));
        }
    });

    it('accepts money and notes, refuses what it does not know', async () => {
        await succeeds(world, client.address, () => client.send(beginCell().endCell(), ton('1')));
        await succeeds(world, client.address, () => client.send(body(OP.doNotProcess, 1n, (b) => b.storeUint(3, 99)), ton('1')));
        await refuses(world, client.address, 1012, () => client.send(body(0x11223344, 1n), ton('1')));
        await refuses(world, client.address, 9, () => client.send(beginCell().storeUint(0x11223344, 32).endCell(), ton('1')));
        await refuses(world, client.address, 1012, () => client.send(body(0x29111ceb, 1n), ton('1')));
    });

    it('believes nobody but its proxy contract that money arrived or is owed', async () => {
        for (const op of [OP.topUpConfirmed, OP.refundShortfall]) {
            const cell = body(op, 1n, (b) => b.storeCoins(ton('5')));
            await refuses(world, client.address, 1014, () => client.send(cell, ton('1')));
        }
    });
});

describe('client, top-up', () => {
    it('moves exactly the amount into the pool and returns the rest', async () => {
        const [pot, before] = [await world.balance(world.proxy), await world.proxyState()];
        const sent = await succeeds(world, client.address, () => client.send(topUp(ton('3')), ton('3.5')));
        assert.equal(await world.balance(world.proxy), pot + ton('3'));
        assert.equal((await world.proxyState()).pool, before.pool + ton('3'));
        const state = await client.state();
        assert.equal(state.balance, ton('13'));
        assert.equal(state.unconfirmed, 0n);
        const [excess] = received(sent, client.owner.address, OP.excess);
        assert.ok(excess!.from.equals(world.proxy));
        assert.ok(excess!.value > ton('0.48') && excess!.value < ton('0.5'));
    });

    it('may come from anyone', async () => {
        await succeeds(world, client.address, () => client.send(topUp(ton('1')), ton('1.5'), world.stranger));
        assert.equal((await client.state()).balance, ton('11'));
    });

    it('carries state and payload to the proxy contract', async () => {
        const sent = await client.send(secretAndTopUp(ton('3')), ton('3.5'));
        const [request] = received(sent, world.proxy, OP.clientRequest);
        const s = request!.body.beginParse().skip(32);
        assert.equal(s.loadUint(64), 4);
        assert.ok(s.loadAddress().equals(client.owner.address));
        const state = s.loadRef().beginParse();
        assert.deepEqual(
            [state.loadUint(2), state.loadCoins(), state.loadCoins(), state.loadUint(64), state.loadUint(256), state.remainingBits],
            [0, ton('13'), ton('1'), 0, 99, 0],
        );
        const payload = s.loadMaybeRef()!.beginParse();
        assert.deepEqual([payload.loadUint(32), payload.loadCoins()], [OP.payloadTopUp, ton('3')]);
        assert.ok(payload.loadAddress().equals(client.owner.address));
        payload.endParse();
        s.endParse();
    });

    it('is refused while the contract closes', async () => {
        await client.ask(OP.requestRefund);
        await refuses(world, client.address, 1006, () => client.send(topUp(ton('1')), ton('2')));
        await refuses(world, client.address, 1006, () => client.send(secretAndTopUp(ton('1')), ton('2')));
    });
});

describe('client, notices', () => {
    const cases: [string, () => Cell, number | null][] = [
        ['register', register, OP.payloadRegister],
        ['change secret', secret, null],
        ['increase stake', () => stake(ton('2')), null],
        ['charge', () => signed(OP.charge, 100n), null],
    ];
    for (const [name, cell, payloadOp] of cases) {
        it(`${name}: one nanoton to the proxy account, the rest back, nothing kept`, async () => {
            const pot = await world.balance(world.proxy);
            const sent = await succeeds(world, client.address, () => client.send(cell(), ton('0.7')));
            assert.equal(await world.balance(client.address), kept);
            assert.equal(await world.balance(world.proxy), pot + 1n);
            assert.equal(run(sent, world.proxy).computePhase.type, 'skipped');
            const [request] = received(sent, world.proxy, OP.clientRequest);
            assert.equal(request!.value, 1n);
            const s = request!.body.beginParse().skip(32 + 64 + 267);
            s.loadRef();
            const payload = s.loadMaybeRef();
            assert.equal(payload?.beginParse().loadUint(32) ?? null, payloadOp);
            const [excess] = received(sent, client.owner.address, OP.excess);
            assert.ok(excess!.from.equals(client.address));
            assert.ok(excess!.value > ton('0.69'));
        });
    }

    it('register carries the nonce', async () => {
        const [request] = received(await client.send(register(), ton('0.7')), world.proxy, OP.clientRequest);
        const s = request!.body.beginParse().skip(32 + 64 + 267);
        s.loadRef();
        const payload = s.loadMaybeRef()!.beginParse().skip(32);
        assert.equal(payload.loadUint(64), 1234);
        payload.endParse();
    });

    it('a secret is stored', async () => {
        await client.send(secret(), ton('0.7'));
        assert.equal((await client.state()).secretHash, 42n);
    });

    it('a stake only grows, by a nanoton at least', async () => {
        await refuses(world, client.address, 1003, () => client.send(stake(ton('1')), ton('1')));
        await refuses(world, client.address, 1003, () => client.send(stake(ton('1') - 1n), ton('1')));
        await succeeds(world, client.address, () => client.send(stake(ton('1') + 1n), ton('1')));
        assert.equal((await client.state()).stake, ton('1') + 1n);
    });
});

describe('client, charge', () => {
    it('takes the price of the new tokens, whoever carries the order', async () => {
        const sent = await succeeds(world, client.address, () => client.land(OP.charge, 1_000n, ton('0.7'), world.stranger));
        const state = await client.state();
        assert.equal(state.balance, ton('10') - 1_000n * PRICE);
        assert.equal(state.tokensUsed, 1_000n);
        assert.equal(received(sent, world.stranger.address, OP.excess).length, 1);
        await client.land(OP.charge, 1_001n);
        assert.equal((await client.state()).balance, ton('10') - 1_001n * PRICE);
    });

    it('refuses an order it has seen, and any that is not above it', async () => {
        await client.land(OP.charge, 1_000n);
        for (const tokens of [0n, 999n, 1_000n]) {
            await refuses(world, client.address, 1000, () => client.land(OP.charge, tokens));
        }
    });

    it('forgives what the balance does not cover', async () => {
        const tokens = ton('10') / PRICE;
        await client.land(OP.charge, tokens - 1n);
        assert.equal((await client.state()).balance, PRICE);
        await client.land(OP.charge, tokens + 1n);
        assert.deepEqual([(await client.state()).balance, (await client.state()).tokensUsed], [0n, tokens + 1n]);
        await client.land(OP.charge, 2n ** 64n - 1n);
        assert.equal((await client.state()).balance, 0n);
    });
});

describe('client, signed orders', () => {
    for (const [name, op] of [['charge', OP.charge], ['grant refund', OP.grantRefund]] as const) {
        it(`${name}: refuses what was not signed like this, for this contract, by this key`, async () => {
            const other = await world.client('other');
            const at = (cell: Cell) => () => client.send(cell, ton('0.5'));
            const foreign = order(keyOf('another'), op, client.address, client.owner.address, 5n);
            await refuses(world, client.address, 1007, at(foreign));
            await refuses(world, client.address, 1005, at(signed(op, 5n, { envelopeQueryId: 78n })));
            const otherOp = op === OP.charge ? OP.grantRefund : OP.charge;
            await refuses(world, client.address, 1005, at(signed(otherOp, 5n, { envelopeOp: op })));
            await refuses(world, client.address, 9, at(signed(op, 5n, { trailing: 1 })));
            await refuses(world, client.address, 1015, at(world.sign(op, other.address, client.owner.address, 5n)));
        });
    }

    it('checks signature, state, value, balance, counter, address in this order', async () => {
        await client.land(OP.charge, 10n);
        const other = await world.client('other');
        const bad = (key = world.key) => order(key, OP.charge, other.address, client.owner.address, 5n);
        await refuses(world, client.address, 1003, () => client.send(bad(), ton('0.05')));
        await refuses(world, client.address, 1000, () => client.send(bad(), ton('0.5')));
        await refuses(world, client.address, 1007, () => client.send(bad(keyOf('x')), ton('0.05')));
        await client.land(OP.grantRefund, 10n);
        await refuses(world, client.address, 1006, () => client.send(bad(), ton('0.05')));
        await refuses(world, client.address, 1007, () => client.send(bad(keyOf('x')), ton('0.05')));
    });
});

describe('client, withdraw', () => {
    it('pays what is above the stake, to the nanoton', async () => {
        const pot = await world.balance(world.proxy);
        const sent = await succeeds(world, client.address, () => client.ask(OP.withdraw));
        const [payout] = received(sent, client.owner.address, OP.payout);
        assert.ok(payout!.from.equals(world.proxy));
        assert.equal(payout!.value, ton('9'));
        assert.equal(await world.balance(world.proxy), pot - ton('9'));
        assert.equal(await world.balance(client.address), kept);
        assert.equal((await client.state()).balance, ton('1'));
        assert.equal((await world.proxyState()).pool, ton('1'));
        assert.equal(received(sent, client.owner.address, OP.excess).length, 1);
    });

    it('needs a nanoton above the stake', async () => {
        await client.ask(OP.withdraw);
        await refuses(world, client.address, 1001, () => client.ask(OP.withdraw));
        await client.topUp(1n);
        const sent = await succeeds(world, client.address, () => client.ask(OP.withdraw));
        assert.equal(received(sent, client.owner.address, OP.payout)[0]!.value, 1n);
    });

    it('is refused while the contract closes', async () => {
        await client.ask(OP.requestRefund);
        await refuses(world, client.address, 1006, () => client.ask(OP.withdraw));
    });
});

describe('client, leaving without the proxy', () => {
    it('takes what is above the stake at once and the stake after the delay', async () => {
        const first = await succeeds(world, client.address, () => client.ask(OP.requestRefund));
        assert.equal(received(first, client.owner.address, OP.payout)[0]!.value, ton('9'));
        assert.deepEqual(
            [(await client.state()).state, (await client.state()).unlockTs, (await client.state()).balance],
            [1, START + world.params.clientDelay, ton('1')],
        );
        world.pass(world.params.clientDelay);
        await refuses(world, client.address, 1011, () => client.ask(OP.requestRefund));
        world.pass(1);
        const stakeBefore = (await world.proxyState()).stake;
        const second = await succeeds(world, client.address, () => client.ask(OP.requestRefund));
        assert.equal(received(second, client.owner.address, OP.payout)[0]!.value, ton('1'));
        const proxy = await world.proxyState();
        assert.deepEqual([proxy.stake, proxy.pool], [stakeBefore - ton('1'), ton('1')]);
        assert.deepEqual([(await client.state()).state, (await client.state()).balance], [2, 0n]);
    });

    it('sends a notice only, if there is nothing above the stake', async () => {
        await client.ask(OP.withdraw);
        const sent = await succeeds(world, client.address, () => client.ask(OP.requestRefund));
        assert.equal(run(sent, world.proxy).computePhase.type, 'skipped');
        assert.equal((await client.state()).state, 1);
    });

    it('can still be charged while it waits', async () => {
        await client.ask(OP.requestRefund);
        await client.land(OP.charge, 1_000n);
        assert.equal((await client.state()).balance, ton('1') - 1_000n * PRICE);
    });

    it('gives its own reserve to the owner, whatever the address for excesses says', async () => {
        await client.ask(OP.requestRefund);
        world.pass(world.params.clientDelay + 1);
        const before = await world.balance(client.address);
        const cell = body(OP.requestRefund, 9n, (b) => b.storeAddress(world.stranger.address));
        const sent = await client.send(cell, ton('0.5'));
        const mine = received(sent, client.owner.address, OP.excess);
        const storage = run(sent, client.address).storagePhase!.storageFeesCollected;
        assert.deepEqual(mine.map(({ value }) => value), [before - storage - ton('0.01')]);
        assert.equal(await world.balance(client.address), ton('0.01'));
    });
});

describe('client, refund with the signature of the proxy', () => {
    it('charges, then pays everything and closes', async () => {
        const sent = await succeeds(world, client.address, () => client.land(OP.grantRefund, 1_000n));
        assert.equal(received(sent, client.owner.address, OP.payout)[0]!.value, ton('10') - 1_000n * PRICE);
        const state = await client.state();
        assert.deepEqual([state.state, state.balance, state.tokensUsed, state.unlockTs], [2, 0n, 1_000n, 0]);
        assert.equal((await world.proxyState()).pool, 1_000n * PRICE);
    });

    it('accepts the total already charged, and not one below', async () => {
        await client.land(OP.charge, 1_000n);
        await refuses(world, client.address, 1000, () => client.land(OP.grantRefund, 999n));
        await succeeds(world, client.address, () => client.land(OP.grantRefund, 1_000n));
    });

    it('works on a closing contract and resets its delay', async () => {
        await client.ask(OP.requestRefund);
        const sent = await succeeds(world, client.address, () => client.land(OP.grantRefund, 0n));
        assert.equal(received(sent, client.owner.address, OP.payout)[0]!.value, ton('1'));
        assert.equal((await client.state()).unlockTs, 0);
    });

    it('pays a stranger who carries it no more than he attached', async () => {
        const sent = await client.land(OP.grantRefund, 0n, ton('0.5'), world.stranger);
        const [excess] = received(sent, world.stranger.address, OP.excess);
        assert.ok(excess!.value < ton('0.5'));
        assert.deepEqual(received(sent, client.owner.address, OP.excess).map(({ value }) => value), [kept - ton('0.01')]);
        assert.equal(await world.balance(client.address), ton('0.01'));
    });
});

describe('client, get method and storage', () => {
    it('tells everything it stores', async () => {
        await client.send(secret(), ton('0.7'));
        await client.land(OP.charge, 7n);
        const stack = (await world.chain.runGetMethod(client.address, 'get_cocoon_client_data')).stackReader;
        assert.ok(stack.readAddress().equals(client.owner.address));
        assert.ok(stack.readAddress().equals(world.proxy));
        assert.equal(stack.readBigNumber(), BigInt('0x' + world.key.publicKey.toString('hex')));
        const rest = Array.from({ length: 6 }, () => stack.readBigNumber());
        assert.deepEqual(rest, [0n, ton('10') - 140n, ton('1'), 7n, 0n, 42n]);
        assert.equal(stack.remaining, 0);
    });

    it('has the deployed layout when no top-up is under way', async () => {
        const data = await world.data(client.address);
        assert.equal(data.refs.length, 2);
        assert.ok(data.refs[0]!.equals(client.init.data.refs[0]!) && data.refs[1]!.equals(client.init.data.refs[1]!));
    });

    it('refuses parameters of another version', async () => {
        const account = await world.account(client.address);
        const state = account.accountState;
        assert.equal(state?.type, 'active');
        const data = await world.data(client.address);
        const old = beginCell().storeUint(2, 8).storeSlice(data.refs[1]!.beginParse().skip(8)).endCell();
        const bits = data.beginParse();
        const changed = beginCell().storeBits(bits.loadBits(bits.remainingBits)).storeRef(data.refs[0]!).storeRef(old).endCell();
        (state as { state: { data: Cell } }).state.data = changed;
        account.account = { ...account.account, account: { ...account.account.account!, storage: { ...account.account.account!.storage, state: state as never } } };
        assert.equal(exitCode(await client.land(OP.charge, 5n), client.address), 1008);
    });
});
