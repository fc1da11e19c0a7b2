// Transfers that fail, proxies that close, and the ways to be paid twice that the deployed contracts leave open.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Address, beginCell, Cell, SendMode, type Transaction } from '@ton/core';
import { body, OP } from './support/cells.ts';
import { exitCode, on, received, refuses, run, succeeds, ton, World, type Client } from './support/world.ts';

const simple = (op: number, client: Client) => body(op, 8n, (b) => b.storeAddress(client.owner.address));

/** Several messages of one wallet in one go: all are under way before the first is answered. */
async function together(client: Client, messages: [Cell, bigint][]): Promise<Transaction[]> {
    const result = await client.owner.sendMessages(
        messages.map(([cell, value]) => ({
            info: { type: 'internal', ihrDisabled: true, bounce: true, bounced: false, dest: client.address, value: { coins: value }, ihrFee: 0n, forwardFee: 0n, createdLt: 0n, createdAt: 0 },
            body: cell,
        })) as never,
        SendMode.PAY_GAS_SEPARATELY,
    );
    return result.transactions;
}

const topUp = (client: Client, amount: bigint): [Cell, bigint] => [
    body(OP.topUp, 2n, (b) => b.storeCoins(amount).storeAddress(client.owner.address)),
    amount + ton('0.5'),
];

/** Makes the proxy contract poorer than its books say, so that it cannot pay. */
async function drain(world: World, left: bigint) {
    (await world.account(world.proxy)).balance = left;
}

describe('a top-up that fails', () => {
    it('comes back to the owner if the proxy contract does not exist', async () => {
        const world = await World.create({ deploy: false });
        const client = await world.client('client');
        const sent = await client.topUp(ton('5'), ton('5.5'), world.stranger);
        assert.equal(received(sent, client.owner.address, OP.payout)[0]!.value, ton('5'));
        assert.ok(received(sent, world.stranger.address, OP.excess)[0]!.value > ton('0.47'));
        assert.deepEqual([(await client.state()).balance, (await client.state()).unconfirmed], [0n, 0n]);
    });

    for (const state of ['closing', 'closed']) {
        it(`comes back if the proxy contract is ${state}`, async () => {
            const world = await World.create();
            const client = await world.client('client');
            await client.topUp(ton('5'));
            await world.close('signedClose');
            if (state === 'closed') {
                world.pass(world.params.proxyDelay);
                await world.close('completeClose');
            }
            const [pot, pool] = [await world.balance(world.proxy), (await world.proxyState()).pool];
            const sent = await client.topUp(ton('3'));
            assert.equal(exitCode(sent, world.proxy), 1006);
            assert.equal(received(sent, client.owner.address, OP.payout)[0]!.value, ton('3'));
            assert.equal((await client.state()).balance, ton('5'));
            assert.equal(await world.balance(world.proxy), pot);
            assert.equal((await world.proxyState()).pool, pool);
        });
    }

    it('cannot be withdrawn before it has come back', async () => {
        const world = await World.create();
        const victim = await world.client('victim');
        await victim.topUp(ton('200'));
        const thief = await world.client('thief');
        await thief.topUp(ton('15'));
        await world.close('signedClose');
        const sent = await together(thief, [topUp(thief, ton('100')), [simple(OP.withdraw, thief), ton('0.5')]]);
        const paid = received(sent, thief.owner.address, OP.payout).reduce((sum, { value }) => sum + value, 0n);
        assert.equal(paid, ton('114'), 'the top-up and what was above the stake');
        assert.equal((await thief.state()).balance, ton('1'));
        assert.equal((await world.proxyState()).pool, ton('201'));
    });

    it('cannot be taken with a request for refund or a signed refund either', async () => {
        for (const leave of ['request', 'grant']) {
            const world = await World.create();
            const victim = await world.client('victim');
            await victim.topUp(ton('200'));
            const thief = await world.client('thief');
            await thief.topUp(ton('15'));
            await world.close('signedClose');
            const cell = leave === 'request' ? simple(OP.requestRefund, thief) : world.sign(OP.grantRefund, thief.address, thief.owner.address, 0n);
            await together(thief, [topUp(thief, ton('100')), [cell, ton('0.5')]]);
            const pool = (await world.proxyState()).pool;
            assert.equal(pool, leave === 'request' ? ton('201') : ton('200'));
            assert.equal((await thief.state()).balance, pool - ton('200'));
        }
    });

    it('counts, once confirmed, even if the contract closed meanwhile', async () => {
        const world = await World.create();
        const client = await world.client('client');
        await client.topUp(ton('5'));
        const grant = world.sign(OP.grantRefund, client.address, client.owner.address, 0n);
        const sent = await together(client, [topUp(client, ton('2')), [grant, ton('0.5')]]);
        assert.equal(received(sent, client.owner.address, OP.payout)[0]!.value, ton('5'));
        const state = await client.state();
        assert.deepEqual([state.state, state.balance, state.unconfirmed], [1, ton('2'), 0n]);
        assert.equal(state.unlockTs, world.chain.now! + world.params.clientDelay, 'the proxy gets its delay');
        const again = await succeeds(world, client.address, () => client.send(grant, ton('0.5')));
        assert.equal(received(again, client.owner.address, OP.payout)[0]!.value, ton('2'));
        assert.equal((await world.proxyState()).pool, 0n);
    });
});

describe('a refund that fails', () => {
    const setUp = async () => {
        const world = await World.create();
        const client = await world.client('client');
        await client.topUp(ton('5'));
        const rich = await world.balance(world.proxy);
        await drain(world, ton('0.5'));
        return { world, client, rich };
    };

    it('withdrawn: the balance is restored', async () => {
        const { world, client, rich } = await setUp();
        const sent = await client.ask(OP.withdraw);
        assert.equal(received(sent, client.owner.address, OP.payout).length, 0);
        assert.equal(received(sent, client.owner.address, OP.excess).length, 1, 'and the value comes back');
        assert.deepEqual([(await client.state()).balance, (await client.state()).state], [ton('5'), 0]);
        assert.equal((await world.proxyState()).pool, ton('5'));
        await drain(world, rich);
        const again = await client.ask(OP.withdraw);
        assert.equal(received(again, client.owner.address, OP.payout)[0]!.value, ton('4'));
    });

    it('granted: the contract is closing again, and the same order closes it', async () => {
        const { world, client, rich } = await setUp();
        await client.land(OP.grantRefund, 100n);
        assert.deepEqual([(await client.state()).balance, (await client.state()).state], [ton('5') - 2_000n, 1]);
        await drain(world, rich);
        const again = await client.land(OP.grantRefund, 100n, ton('0.5'), world.stranger);
        assert.equal(received(again, client.owner.address, OP.payout)[0]!.value, ton('5') - 2_000n);
        assert.deepEqual([(await client.state()).balance, (await client.state()).state], [0n, 2]);
    });

    it('forced: the contract is closing again, with another delay', async () => {
        const { world, client, rich } = await setUp();
        await client.ask(OP.requestRefund);
        assert.equal((await client.state()).balance, ton('5'), 'the part above the stake came back');
        world.pass(world.params.clientDelay + 1);
        await client.ask(OP.requestRefund);
        assert.deepEqual([(await client.state()).balance, (await client.state()).state], [ton('5'), 1]);
        await drain(world, rich);
        await refuses(world, client.address, 1011, () => client.ask(OP.requestRefund));
        world.pass(world.params.clientDelay + 1);
        const again = await client.ask(OP.requestRefund);
        assert.equal(received(again, client.owner.address, OP.payout)[0]!.value, ton('5'));
        assert.equal((await client.state()).state, 2);
    });

    it('is never paid out of the stake or the earnings of the proxy', async () => {
        const world = await World.create();
        const client = await world.client('client');
        await client.topUp(ton('5'));
        const worker = await world.worker('worker');
        await worker.land(OP.workerPayout, 200_000_000n);
        assert.equal((await world.proxyState()).pool, ton('1'));
        const sent = await client.ask(OP.withdraw);
        assert.equal(exitCode(sent, world.proxy), 1001);
        assert.equal((await client.state()).balance, ton('5'));
        assert.deepEqual([(await world.proxyState()).stake, (await world.proxyState()).balance], [ton('20'), ton('1')]);
    });
});

describe('a forced refund above the stake', () => {
    it('pays the stake, and owes the rest as before', async () => {
        const world = await World.create({ params: { minProxyStake: ton('2') } });
        const client = await world.client('client');
        await client.topUp(ton('1'));
        await client.send(body(OP.increaseClientStake, 1n, (b) => b.storeCoins(ton('100')).storeAddress(client.owner.address)), ton('0.5'));
        await client.topUp(ton('4'));
        await client.ask(OP.requestRefund);
        world.pass(world.params.clientDelay + 1);
        const sent = await succeeds(world, client.address, () => client.ask(OP.requestRefund));
        assert.equal(received(sent, client.owner.address, OP.payout)[0]!.value, ton('2'));
        assert.deepEqual([(await client.state()).balance, (await client.state()).state], [ton('3'), 1]);
        assert.deepEqual([(await world.proxyState()).stake, (await world.proxyState()).pool], [0n, ton('5')]);
        const rest = await client.land(OP.grantRefund, 0n);
        assert.equal(received(rest, client.owner.address, OP.payout)[0]!.value, ton('3'));
        assert.equal((await world.proxyState()).pool, ton('2'));
    });
});

describe('a payout that fails', () => {
    it('is owed again, and the same order pays it', async () => {
        const world = await World.create();
        const worker = await world.worker('worker');
        const sent = await worker.land(OP.workerPayout, 1_000n, ton('0.5'), world.stranger);
        assert.equal(exitCode(sent, world.proxy), 1001);
        assert.ok(received(sent, world.stranger.address, OP.excess)[0]!.value > ton('0.47'));
        assert.deepEqual(await worker.state(), { state: 0, tokens: 0n });
        await (await world.client('client')).topUp(ton('1'));
        const again = await worker.land(OP.workerPayout, 1_000n);
        assert.equal(received(again, worker.owner.address, OP.payout)[0]!.value, 15_000n);
        await refuses(world, worker.address, 1000, () => worker.land(OP.workerPayout, 1_000n));
    });

    it('opens a contract that had closed with it', async () => {
        const world = await World.create();
        const worker = await world.worker('worker');
        await worker.land(OP.workerLastPayout, 1_000n);
        assert.deepEqual(await worker.state(), { state: 0, tokens: 0n });
        await (await world.client('client')).topUp(ton('1'));
        const again = await worker.land(OP.workerLastPayout, 1_000n);
        assert.equal(received(again, worker.owner.address, OP.payout)[0]!.value, 15_000n);
        assert.deepEqual(await worker.state(), { state: 2, tokens: 1_000n });
    });

    it('fails at the last token the pool does not cover', async () => {
        const world = await World.create();
        await (await world.client('client')).topUp(20_000n);
        const worker = await world.worker('worker');
        await worker.land(OP.workerPayout, 1_001n);
        assert.equal((await worker.state()).tokens, 0n);
        await succeeds(world, worker.address, () => worker.land(OP.workerPayout, 1_000n));
        assert.equal((await world.proxyState()).pool, 0n);
    });
});

describe('a message that cannot be sent on', () => {
    // No network has this workchain: the action phase fails.
    const nowhere = new Address(5, Buffer.alloc(32, 1));

    it('by the proxy contract: the request comes back and is undone', async () => {
        const world = await World.create();
        const client = await world.client('client');
        const cell = body(OP.topUp, 1n, (b) => b.storeCoins(ton('2')).storeAddress(nowhere));
        const sent = await client.send(cell, ton('2.5'));
        assert.equal(exitCode(sent, world.proxy), 36);
        assert.equal(received(sent, client.owner.address, OP.payout)[0]!.value, ton('2'));
        assert.deepEqual([(await client.state()).balance, (await client.state()).unconfirmed], [0n, 0n]);
        assert.equal((await world.proxyState()).pool, 0n);
    });

    it('by the client contract: nothing has happened', async () => {
        const world = await World.create();
        const client = await world.client('client');
        await client.topUp(ton('2'));
        await refuses(world, client.address, 36, () => client.send(world.sign(OP.charge, client.address, nowhere, 5n), ton('0.5')));
    });

    it('for lack of money: the value goes back', async () => {
        const world = await World.create();
        const worker = await world.worker('worker');
        (await world.account(worker.address)).balance = ton('0.001');
        await refuses(world, worker.address, 37, () => worker.land(OP.workerPayout, 1n, ton('0.1') + 1n));
    });
});

describe('a closed proxy contract', () => {
    const closed = async () => {
        const world = await World.create();
        const client = await world.client('client');
        await client.topUp(ton('5'));
        const worker = await world.worker('worker');
        await client.land(OP.charge, 1_000n);
        await world.close('signedClose');
        world.pass(world.params.proxyDelay);
        const sent = await world.close('completeClose');
        return { world, client, worker, sent };
    };

    it('has given its owner nothing of what clients paid in', async () => {
        const { world, sent } = await closed();
        assert.equal((await world.proxyState()).pool, ton('5'));
        assert.equal(await world.balance(world.proxy), ton('5.11'));
        const { value } = received(sent, world.proxyOwner.address, OP.payout)[0]!;
        assert.ok(value > ton('20.2') && value < ton('20.6'));
    });

    it('still lets clients and workers take what is theirs, and then no more', async () => {
        const { world, client, worker } = await closed();
        const paid = await worker.land(OP.workerPayout, 1_000n);
        assert.equal(received(paid, worker.owner.address, OP.payout)[0]!.value, 15_000n);
        const above = await client.ask(OP.requestRefund);
        assert.equal(received(above, client.owner.address, OP.payout)[0]!.value, ton('4') - 20_000n);
        world.pass(world.params.clientDelay + 1);
        const rest = await client.ask(OP.requestRefund);
        assert.equal(received(rest, client.owner.address, OP.payout)[0]!.value, ton('1'));
        assert.equal((await world.proxyState()).pool, 0n);
        const late = await worker.land(OP.workerPayout, 1_001n);
        assert.equal(exitCode(late, world.proxy), 1006, 'nothing is owed: closed');
    });

    it("gives its owner a late worker's fee and what was left for storage", async () => {
        const { world, client, worker } = await closed();
        await worker.land(OP.workerPayout, 1_000n);
        await client.land(OP.grantRefund, 1_000n);
        const ask = body(OP.ownerPayout, 1n, (b) => b.storeAddress(world.stranger.address));
        const sent = await world.send({ from: world.stranger, to: world.proxy, value: ton('0.2'), body: ask });
        assert.equal(received(sent, world.proxyOwner.address, OP.payout)[0]!.value, ton('0.1') + 5_000n);
        assert.equal(await world.balance(world.proxy), ton('0.01'));
        await refuses(world, world.proxy, 1006, () => world.send({ from: world.stranger, to: world.proxy, value: ton('0.2'), body: ask }));
    });

    it('makes the sender pay for storage that ate into what is owed', async () => {
        const { world, client } = await closed();
        await drain(world, ton('4.9'));
        const sent = await client.land(OP.grantRefund, 1_000n, ton('1'));
        assert.equal(received(sent, client.owner.address, OP.payout)[0]!.value, ton('5') - 20_000n);
        assert.equal((await world.proxyState()).pool, 20_000n);
        assert.equal(await world.balance(world.proxy), ton('0.01') + 20_000n);
    });
});

describe('a message back that is none', () => {
    it('moves nothing, whoever sends it and whatever it says', async () => {
        const world = await World.create();
        const client = await world.client('client');
        await client.topUp(ton('5'));
        const before = await world.data(client.address);
        const payload = beginCell().storeUint(OP.payloadGranted, 32).storeCoins(ton('1')).storeAddress(client.owner.address).endCell();
        const forged = body(OP.clientRequest, 1n, (b) => b.storeAddress(client.owner.address).storeRef(payload).storeMaybeRef(payload));
        for (const from of [world.stranger.address, client.owner.address]) {
            const result = await world.chain.sendMessage({
                info: { type: 'internal', ihrDisabled: true, bounce: false, bounced: true, src: from, dest: client.address, value: { coins: ton('1') }, ihrFee: 0n, forwardFee: 0n, createdLt: 0n, createdAt: 0 },
                body: beginCell().storeUint(0xfffffffe, 32).storeRef(forged).storeRef(Cell.EMPTY).storeUint(0, 8 + 32 + 1).endCell(),
            } as never);
            assert.equal(exitCode(result.transactions, client.address), 0);
            assert.ok(result.transactions.some((tx) => on(tx, client.address)));
            assert.ok((await world.data(client.address)).equals(before));
        }
        assert.equal(run(await client.topUp(1n), client.address).aborted, false);
    });
});
