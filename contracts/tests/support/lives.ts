// Whole lives of one proxy with clients and workers, in random order, by a seed: deposits, work, charges, payouts, refunds,
// closing in the middle, replays and forgeries, several messages under way at once. After every step the books must
// agree to the nanoton; at the end everyone must have got out.

import assert from 'node:assert/strict';
import { beginCell, SendMode, type Address, type Cell, type MessageRelaxed, type Transaction } from '@ton/core';
import { body, OP, order } from './cells.ts';
import { allFees, Client, exitCode, keyOf, on, received, ton, Worker, World, type AllCodes, type Wallet } from './world.ts';

/** A small deterministic generator (mulberry32). */
function dice(seed: number) {
    let state = seed >>> 0;
    const next = () => {
        state = (state + 0x6d2b79f5) >>> 0;
        let t = Math.imul(state ^ (state >>> 15), state | 1);
        t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
        return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
    return {
        chance: (probability: number) => next() < probability,
        below: (bound: number) => Math.floor(next() * bound),
        amount: (bound: bigint) => (BigInt(Math.floor(next() * 2 ** 32)) * bound) / 2n ** 32n,
        pick: <T>(from: readonly T[]): T => from[Math.floor(next() * from.length)]!,
    };
}

/** What one party's wallet was sent as payouts, and for a client what was accepted as top-ups for it. */
interface Book {
    signed: bigint;
    paidOut: bigint;
    toppedUp: bigint;
}

const newBook = (): Book => ({ signed: 0n, paidOut: 0n, toppedUp: 0n });

export class Life {
    private readonly clients: [Client, Book][] = [];
    private readonly workers: [Worker, Book][] = [];
    private readonly log: string[] = [];
    /** Messages seen before, to be sent again by a stranger. */
    private readonly seen: [Address, Cell][] = [];
    private stakeAdded = 0n;
    /** Paid by force out of the stake; what those clients had paid in stays in the pool. */
    private forced = 0n;
    private wealth = 0n;

    private constructor(
        private readonly world: World,
        private readonly random: ReturnType<typeof dice>,
    ) {}

    static async run(seed: number, steps: number, codes?: AllCodes): Promise<void> {
        const world = await World.create({ codes, stake: 0n, params: { minProxyStake: ton('3') } });
        const life = new Life(world, dice(seed));
        for (let i = 0; i < 3; i++) life.clients.push([await world.client(`client ${i}`), newBook()]);
        for (let i = 0; i < 2; i++) life.workers.push([await world.worker(`worker ${i}`), newBook()]);
        life.wealth = (await life.total()) + world.fees;
        try {
            await life.stake(ton('4'));
            for (let i = 0; i < steps; i++) await life.step();
            await life.end();
        } catch (error) {
            throw new Error(`seed ${seed}, after: ${life.log.slice(-12).join('; ')}`, { cause: error });
        }
    }

    private get price() {
        return this.world.params.price;
    }

    private async step() {
        const { random } = this;
        if (random.chance(0.4)) this.world.pass(random.below(150));
        const [client, book] = random.pick(this.clients);
        const [worker, earned] = random.pick(this.workers);
        const steps: (() => Promise<void>)[] = [
            () => this.topUp(client, random.amount(ton('8'))),
            () => this.topUp(client, random.amount(ton('8'))),
            () => this.serve(client, book, worker, earned),
            () => this.serve(client, book, worker, earned),
            () => this.serve(client, book, worker, earned),
            () => this.charge(client, book),
            () => this.payout(worker, earned, false),
            () => this.withdraw(client),
            () => this.burst(client, book),
            () => this.attack(client, worker),
            () => this.stake(random.amount(ton('2'))),
            () => this.ownerPayout(),
            () => this.clientStake(client),
        ];
        // What ends a party's life is rarer than what fills it.
        if (random.chance(0.15)) {
            steps.splice(0, steps.length, () => this.request(client), () => this.grant(client, book), () => this.payout(worker, earned, true), () => this.close());
        }
        await random.pick(steps)();
    }

    /** A proxy that keeps its word signs work up to the client's stake, which the client cannot withdraw. */
    private async serve(client: Client, book: Book, worker: Worker, earned: Book) {
        const { state, balance, stake, tokensUsed } = await client.state();
        const states = [state, (await worker.state()).state, (await this.world.proxyState()).state];
        if (states.some((each) => each !== 0)) return;
        const cover = balance < stake ? balance : stake;
        const tokens = this.random.amount(cover / this.price - (book.signed - tokensUsed) + 1n);
        if (tokens <= 0n) return;
        book.signed += tokens;
        earned.signed += tokens;
    }

    private async topUp(client: Client, amount: bigint) {
        const from = this.random.chance(0.2) ? this.world.stranger : client.owner;
        await this.act('top up', await client.topUp(amount, amount + ton('0.4'), from));
    }

    private async charge(client: Client, book: Book) {
        const { tokensUsed, state } = await client.state();
        const tokens = tokensUsed + this.random.amount(book.signed - tokensUsed + 2n);
        if (tokens > book.signed) return;
        const sent = await this.land(client, OP.charge, tokens);
        assert.equal(exitCode(sent, client.address), state === 2 ? 1006 : tokens > tokensUsed ? 0 : 1000);
    }

    private async payout(worker: Worker, book: Book, last: boolean) {
        const { state, tokens: paid } = await worker.state();
        const before = book.paidOut;
        await this.land(worker, last ? OP.workerLastPayout : OP.workerPayout, book.signed);
        if (state === 0) assert.equal(book.paidOut - before, (book.signed - paid) * this.world.params.workerFee);
    }

    private async withdraw(client: Client) {
        const { state, balance, stake } = await client.state();
        const sent = await this.act('withdraw', await client.ask(OP.withdraw));
        const paid = received(sent, client.owner.address, OP.payout).reduce((sum, { value }) => sum + value, 0n);
        assert.equal(paid, state === 0 && balance > stake ? balance - stake : 0n);
    }

    private async request(client: Client) {
        const [{ state, balance, unlockTs }, proxy] = [await client.state(), await this.world.proxyState()];
        const sent = await this.act('request refund', await client.ask(OP.requestRefund));
        if (state !== 1 || unlockTs >= this.world.chain.now!) return;
        const due = proxy.state === 2 || balance <= proxy.stake ? balance : proxy.stake;
        const paid = received(sent, client.owner.address, OP.payout).reduce((sum, { value }) => sum + value, 0n);
        assert.equal(paid, due, 'a forced refund pays all, or all of the stake');
    }

    private async grant(client: Client, book: Book) {
        const { state, balance, tokensUsed } = await client.state();
        const left = balance - (book.signed - tokensUsed) * this.price;
        const sent = await this.land(client, OP.grantRefund, book.signed);
        const paid = received(sent, client.owner.address, OP.payout).reduce((sum, { value }) => sum + value, 0n);
        assert.equal(paid, state === 2 && balance === 0n ? 0n : left);
    }

    private async clientStake(client: Client) {
        const { stake } = await client.state();
        const cell = body(OP.increaseClientStake, 5n, (b) => b.storeCoins(stake + this.random.amount(ton('1'))).storeAddress(client.owner.address));
        await this.act('client stake', await client.send(cell, ton('0.4')));
    }

    private async stake(amount: bigint) {
        const sent = await this.world.increaseProxyStake(amount);
        if (exitCode(sent, this.world.proxy) === 0) this.stakeAdded += amount;
        await this.act('stake', sent);
    }

    private async ownerPayout() {
        const cell = body(OP.ownerPayout, 6n, (b) => b.storeAddress(this.world.stranger.address));
        await this.act('owner payout', await this.world.send({ from: this.world.stranger, to: this.world.proxy, value: ton('0.3'), body: cell }));
    }

    private async close() {
        const { state, unlockTs } = await this.world.proxyState();
        // Completing says that all work is charged: from then on a forced refund comes out of the pool.
        if (state === 1) for (const [client, book] of this.clients) await this.settle(client, book);
        const sent = await this.act('close', await this.world.close(state === 0 ? 'signedClose' : 'completeClose', ton('0.4')));
        const expected = state === 0 ? 0 : state === 2 ? 1006 : unlockTs <= this.world.chain.now! ? 0 : 1011;
        assert.equal(exitCode(sent, this.world.proxy), expected);
    }

    private async settle(client: Client, book: Book) {
        const { state, tokensUsed } = await client.state();
        if (state !== 2 && book.signed > tokensUsed) await this.land(client, OP.charge, book.signed);
    }

    /** Several messages of the client's owner at once: none waits for the answer to another. */
    private async burst(client: Client, book: Book) {
        const { random } = this;
        const { tokensUsed } = await client.state();
        const messages = Array.from({ length: 2 + random.below(3) }, (): [Cell, bigint] => {
            const amount = random.amount(ton('5'));
            const excess = client.owner.address;
            return random.pick<() => [Cell, bigint]>([
                () => [body(OP.topUp, 7n, (b) => b.storeCoins(amount).storeAddress(excess)), amount + ton('0.4')],
                () => [body(OP.changeSecretAndTopUp, 7n, (b) => b.storeCoins(amount).storeUint(amount, 256).storeAddress(excess)), amount + ton('0.4')],
                () => [body(OP.withdraw, 7n, (b) => b.storeAddress(excess)), ton('0.4')],
                () => [this.world.sign(OP.charge, client.address, excess, tokensUsed + random.amount(book.signed - tokensUsed + 1n)), ton('0.4')],
                () => (random.chance(0.3) ? [body(OP.requestRefund, 7n, (b) => b.storeAddress(excess)), ton('0.4')] : [this.world.sign(OP.grantRefund, client.address, excess, book.signed), ton('0.4')]),
            ])();
        });
        const result = await client.owner.sendMessages(
            messages.map(([cell, value]) => internalMessage(client.address, value, cell)),
            SendMode.PAY_GAS_SEPARATELY,
        );
        this.world.fees += allFees(result.transactions);
        await this.act('burst', result.transactions.slice(1));
    }

    /** A stranger sends again what was sent before, or what he is not entitled to. None of it may matter to the books. */
    private async attack(client: Client, worker: Worker) {
        const { world, random } = this;
        const amount = ton('1');
        const stranger = world.stranger.address;
        const forged = (op: number) => body(op, 1n, (b) => b.storeCoins(amount));
        const payload = beginCell().storeUint(OP.payloadGranted, 32).storeCoins(amount).storeAddress(stranger).endCell();
        const targets: [Address, Cell][] = [
            ...(this.seen.length > 0 ? [random.pick(this.seen), random.pick(this.seen), random.pick(this.seen)] : []),
            [client.address, order(keyOf('not the proxy'), OP.grantRefund, client.address, stranger, 2n ** 40n)],
            [worker.address, order(keyOf('not the proxy'), OP.workerPayout, worker.address, stranger, 2n ** 40n)],
            [client.address, forged(OP.topUpConfirmed)],
            [client.address, forged(OP.refundShortfall)],
            [client.address, body(OP.withdraw, 1n, (b) => b.storeAddress(stranger))],
            [world.proxy, body(OP.clientRequest, 1n, (b) => b.storeAddress(stranger).storeRef(payload).storeMaybeRef(payload))],
        ];
        const [to, cell] = random.pick(targets);
        await this.act('attack', await world.send({ from: world.stranger, to, value: ton('0.4'), body: cell }));
    }

    private async land(party: Client | Worker, op: number, tokens: bigint) {
        const from = this.random.chance(0.3) ? this.world.stranger : party.owner;
        const cell = this.world.sign(op, party.address, from.address, tokens);
        this.seen.push([party.address, cell]);
        return this.act(`order ${op.toString(16)}`, await party.send(cell, ton('0.4'), from));
    }

    /** Books what happened and checks all books. */
    private async act(name: string, transactions: Transaction[]) {
        this.log.push(name);
        for (const tx of transactions) {
            if (tx.description.type === 'generic' && !tx.description.aborted) this.bookTopUp(tx);
        }
        for (const [party, book] of [...this.clients, ...this.workers]) {
            for (const { value } of received(transactions, party.owner.address, OP.payout)) book.paidOut += value;
        }
        const { stake, state } = await this.world.proxyState();
        // The stake only ever shrinks by force, until the close is complete.
        if (state !== 2) this.forced = this.stakeAdded - stake;
        await this.check();
        return transactions;
    }

    private bookTopUp(tx: Transaction) {
        const entry = this.clients.find(([client]) => on(tx, client.address));
        const s = tx.inMessage!.body.beginParse();
        if (entry === undefined || tx.inMessage!.info.type !== 'internal' || tx.inMessage!.info.bounced || s.remainingBits < 32) return;
        const op = s.loadUint(32);
        if (op === OP.topUp || op === OP.changeSecretAndTopUp) entry[1].toppedUp += s.skip(64).loadCoins();
    }

    private async check() {
        const { world } = this;
        const proxy = await world.proxyState();
        let [used, held, worked] = [0n, 0n, 0n];
        for (const [client, book] of this.clients) {
            const { balance, tokensUsed, unconfirmed, state } = await client.state();
            assert.equal(unconfirmed, 0n, 'every top-up is answered');
            assert.equal(book.toppedUp - book.paidOut - balance, tokensUsed * this.price, 'client: in = out + balance + charges');
            assert.ok(state !== 2 || balance === 0n, 'nothing is owed by a closed contract');
            used += tokensUsed;
            held += balance;
        }
        for (const [worker, book] of this.workers) {
            const { tokens } = await worker.state();
            assert.equal(book.paidOut, tokens * world.params.workerFee, 'worker: paid = tokens x fee');
            worked += tokens;
        }
        assert.equal(proxy.pool, held + (used - worked) * this.price + this.forced, 'pool = balances + charges - payouts + what force left');
        assert.ok(this.forced >= 0n, 'the stake is what was added, less what was forced');
        assert.ok((await world.balance(world.proxy)) >= proxy.pool + proxy.stake + proxy.balance, 'the pot covers what is owed');
        assert.equal((await this.total()) + world.fees, this.wealth, 'no nanoton comes or goes');
    }

    /** Everything that all accounts hold. */
    private async total() {
        const { world } = this;
        const wallets: Wallet[] = [world.stranger, world.proxyOwner, ...[...this.clients, ...this.workers].map(([party]) => party.owner)];
        const contracts = [world.proxy, ...[...this.clients, ...this.workers].map(([party]) => party.address)];
        const addresses = [...wallets.map((wallet) => wallet.address), ...contracts];
        const balances = await Promise.all(addresses.map((address) => world.balance(address)));
        return balances.reduce((sum, balance) => sum + balance, 0n);
    }

    /** All leave: half of the time the proxy is closed first. */
    private async end() {
        const { world, random } = this;
        if (random.chance(0.5)) await this.closeForGood();
        for (const [client, book] of this.clients) {
            if (random.chance(0.5)) {
                await this.grant(client, book);
            } else {
                for (let i = 0; i < 3; i++) {
                    world.pass(world.params.clientDelay + 1);
                    await this.request(client);
                }
                // The stake may not have covered it; the proxy's signature does.
                await this.grant(client, book);
            }
            const { state, balance } = await client.state();
            assert.deepEqual([state, balance], [2, 0n]);
        }
        for (const [worker, book] of this.workers) {
            await this.payout(worker, book, true);
            assert.deepEqual(await worker.state(), { state: 2, tokens: book.signed });
        }
        await this.closeForGood();
        await this.ownerPayout();
        const { pool, balance, stake } = await world.proxyState();
        assert.deepEqual([balance, stake], [0n, 0n]);
        const rest = ton('0.01') + (pool > 0n ? pool + ton('0.1') : 0n);
        const held = await world.balance(world.proxy);
        assert.ok(held <= rest && held > rest - ton('0.001'), 'the owner has the rest, and storage took its due');
    }

    private async closeForGood() {
        if ((await this.world.proxyState()).state === 0) await this.close();
        if ((await this.world.proxyState()).state === 1) {
            this.world.pass(this.world.params.proxyDelay);
            await this.close();
        }
    }
}

const internalMessage = (dest: Address, coins: bigint, content: Cell): MessageRelaxed => ({
    info: { type: 'internal', ihrDisabled: true, bounce: true, bounced: false, dest, value: { coins }, ihrFee: 0n, forwardFee: 0n, createdLt: 0n, createdAt: 0 },
    body: content,
});
