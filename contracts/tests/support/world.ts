// One proxy with its clients and workers in the sandbox, and the ways tests look at what happened.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Address, Cell, SendMode, toNano, type Transaction } from '@ton/core';
import { keyPairFromSeed, sha256_sync, type KeyPair } from '@ton/crypto';
import { Blockchain, Executor, type SandboxContract, type SmartContract, type TreasuryContract } from '@ton/sandbox';
import { committed, CONTRACTS, type ContractName } from '../../scripts/compile.ts';
import * as cells from './cells.ts';
import type { Params } from './cells.ts';

export const ton = toNano;
export type Wallet = SandboxContract<TreasuryContract>;
export type AllCodes = Record<ContractName, Cell>;

export const CODES: AllCodes = Object.fromEntries(
    CONTRACTS.map((name) => [name, Cell.fromBoc(readFileSync(committed(name)))[0]!]),
) as AllCodes;

export const keyOf = (seed: string): KeyPair => keyPairFromSeed(sha256_sync(seed));

export const START = 1_800_000_000;

export const executor = await Executor.create();

/** An empty chain at `START`. One emulator serves all chains of a process, without logs: both take most of the time. */
export async function newChain(): Promise<Blockchain> {
    const chain = await Blockchain.create({ executor });
    chain.verbosity = { print: false, blockchainLogs: false, vmLogs: 'none', debugLogs: false };
    chain.now = START;
    return chain;
}

/** A message as the sandbox takes it. */
export interface Sent {
    from: Wallet;
    to: Address;
    value: bigint;
    body?: Cell;
    init?: cells.Init;
    bounce?: boolean;
}

export class World {
    readonly key = keyOf('proxy');
    readonly proxy: Address;
    /** What the network took for everything sent so far, wallets included. */
    fees = 0n;

    private constructor(
        readonly chain: Blockchain,
        readonly params: Params,
        readonly codes: AllCodes,
        readonly proxyOwner: Wallet,
        readonly stranger: Wallet,
        readonly root: Address,
    ) {
        this.proxy = cells.addressOf(this.proxyInit());
    }

    /** A world with a deployed proxy that has `stake`; the least one if it is not given. */
    static async create(options: { params?: Partial<Params>; codes?: AllCodes; stake?: bigint; deploy?: boolean } = {}) {
        const chain = await newChain();
        const params = { ...cells.PARAMS, ...options.params };
        const owner = await chain.treasury('proxy owner');
        const stranger = await chain.treasury('stranger');
        const root = new Address(0, sha256_sync('root'));
        const world = new World(chain, params, options.codes ?? CODES, owner, stranger, root);
        if (options.deploy ?? true) {
            await world.deployProxy();
            const stake = options.stake ?? params.minProxyStake;
            if (stake > 0n) await world.increaseProxyStake(stake);
        }
        return world;
    }

    proxyInit() {
        return cells.proxyInit(this.proxyOwner.address, this.key.publicKey, this.root, this.params, this.codes);
    }

    deployProxy(value = ton('0.3')) {
        return this.send({ from: this.proxyOwner, to: this.proxy, value, init: this.proxyInit() });
    }

    increaseProxyStake(amount: bigint) {
        const body = cells.body(cells.OP.increaseProxyStake, 1n, (b) =>
            b.storeCoins(amount).storeAddress(this.proxyOwner.address),
        );
        return this.send({ from: this.proxyOwner, to: this.proxy, value: amount + ton('0.2'), body });
    }

    async client(name: string, deploy = true): Promise<Client> {
        const owner = await this.chain.treasury(name);
        const init = cells.clientInit(owner.address, this.proxy, this.key.publicKey, this.params, this.codes);
        const client = new Client(this, owner, cells.addressOf(init), init);
        if (deploy) await client.deploy();
        return client;
    }

    async worker(name: string, deploy = true): Promise<Worker> {
        const owner = await this.chain.treasury(name);
        const init = cells.workerInit(owner.address, this.proxy, this.key.publicKey, this.params, this.codes);
        const worker = new Worker(this, owner, cells.addressOf(init), init);
        if (deploy) await worker.deploy();
        return worker;
    }

    /** Sends from a wallet and runs until every message has arrived. */
    async send(message: Sent): Promise<Transaction[]> {
        const result = await message.from.send({
            to: message.to,
            value: message.value,
            body: message.body,
            init: message.init,
            bounce: message.bounce ?? true,
            sendMode: SendMode.PAY_GAS_SEPARATELY,
        });
        this.fees += allFees(result.transactions);
        // The first transaction is the wallet's own.
        return result.transactions.slice(1);
    }

    sign(op: number, contract: Address, excess: Address, tokens?: bigint, options?: cells.OrderOptions): Cell {
        return cells.order(this.key, op, contract, excess, tokens, options);
    }

    async account(address: Address): Promise<SmartContract> {
        return this.chain.getContract(address);
    }

    async balance(address: Address): Promise<bigint> {
        return (await this.account(address)).balance;
    }

    async data(address: Address): Promise<Cell> {
        const state = (await this.account(address)).accountState;
        if (state?.type !== 'active') throw new Error(`${address.toString()} is not active`);
        return state.state.data!;
    }

    async proxyState() {
        return cells.readProxy(await this.data(this.proxy));
    }

    async close(order: 'signedClose' | 'completeClose', value = ton('0.2')) {
        const body = this.sign(cells.OP[order], this.proxy, this.proxyOwner.address);
        return this.send({ from: this.proxyOwner, to: this.proxy, value, body });
    }

    pass(seconds: number) {
        this.chain.now! += seconds;
    }
}

/** A client or worker contract with its owner's wallet. */
class Party {
    constructor(
        readonly world: World,
        readonly owner: Wallet,
        readonly address: Address,
        readonly init: cells.Init,
    ) {}

    deploy(value = ton('0.3')) {
        return this.world.send({ from: this.owner, to: this.address, value, init: this.init });
    }

    send(body: Cell, value: bigint, from: Wallet = this.owner) {
        return this.world.send({ from, to: this.address, value, body });
    }

    /** Lands an order that the proxy signed for this contract. */
    land(op: number, tokens: bigint, value = ton('0.5'), from: Wallet = this.owner) {
        return this.send(this.world.sign(op, this.address, from.address, tokens), value, from);
    }
}

export class Client extends Party {
    async state() {
        return cells.readClient(await this.world.data(this.address));
    }

    topUp(amount: bigint, value = amount + ton('0.5'), from: Wallet = this.owner) {
        const body = cells.body(cells.OP.topUp, 2n, (b) => b.storeCoins(amount).storeAddress(from.address));
        return this.send(body, value, from);
    }

    /** An operation that has only an address for excesses: withdraw, request a refund. */
    ask(op: number, value = ton('0.5'), from: Wallet = this.owner) {
        return this.send(cells.body(op, 3n, (b) => b.storeAddress(from.address)), value, from);
    }
}

export class Worker extends Party {
    async state() {
        return cells.readWorker(await this.world.data(this.address));
    }
}

/** The compute phase of the first transaction on `address`. */
export function run(transactions: Transaction[], address: Address) {
    const found = transactions.find((tx) => on(tx, address));
    if (found?.description.type !== 'generic') throw new Error(`no transaction on ${address.toString()}`);
    return found.description;
}

export const on = (tx: Transaction, address: Address) =>
    tx.address === BigInt('0x' + address.hash.toString('hex'));

/** Exit code of the first transaction on `address`, the action phase's if it got that far. */
export function exitCode(transactions: Transaction[], address: Address): number {
    const { computePhase, actionPhase } = run(transactions, address);
    if (computePhase.type === 'skipped') throw new Error(`skipped: ${computePhase.reason}`);
    return computePhase.exitCode !== 0 ? computePhase.exitCode : (actionPhase?.resultCode ?? 0);
}

export function gasUsed(transactions: Transaction[], address: Address): bigint {
    const { computePhase } = run(transactions, address);
    return computePhase.type === 'vm' ? computePhase.gasUsed : 0n;
}

/** What arrived at `address` with `op`, in order: sender and value. */
export function received(transactions: Transaction[], address: Address, op: number) {
    return transactions.flatMap((tx) => {
        const message = tx.inMessage;
        if (!on(tx, address) || message?.info.type !== 'internal' || message.info.bounced) return [];
        const slice = message.body.beginParse();
        if (slice.remainingBits < 32 || slice.preloadUint(32) !== op) return [];
        return [{ from: message.info.src, value: message.info.value.coins, body: message.body }];
    });
}

/** Everything that left for the network: fees of transactions, and of forwarding what arrived in them. */
export const allFees = (transactions: Transaction[]) =>
    transactions.reduce((sum, tx) => {
        const info = tx.inMessage?.info;
        return sum + tx.totalFees.coins + (info?.type === 'internal' ? info.forwardFee : 0n);
    }, 0n);

/** Asserts that a contract refused a message with `code`, kept its data and its money, and that the value went back. */
export async function refuses(world: World, address: Address, code: number, act: () => Promise<Transaction[]>) {
    const [data, balance] = [await world.data(address), await world.balance(address)];
    const transactions = await act();
    assert.equal(exitCode(transactions, address), code);
    assert.ok((await world.data(address)).equals(data), 'a refused message changes nothing');
    const storage = run(transactions, address).storagePhase?.storageFeesCollected ?? 0n;
    assert.equal(await world.balance(address), balance - storage, 'a refused message leaves nothing');
    assert.ok(run(transactions, address).bouncePhase?.type === 'ok', 'a refused message bounces');
    return transactions;
}

/** Asserts that `act` succeeds on `address` and in everything that follows from it. */
export async function succeeds(world: World, address: Address, act: () => Promise<Transaction[]>) {
    const transactions = await act();
    assert.equal(exitCode(transactions, address), 0);
    for (const tx of transactions) {
        if (tx.description.type !== 'generic' || tx.description.computePhase.type === 'skipped') continue;
        assert.ok(!tx.description.aborted, `a message after it failed: ${tx.description.computePhase.exitCode}`);
    }
    return transactions;
}
