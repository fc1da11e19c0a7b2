// The operator's wallet: signed external messages, and what its owner may tell it.

import assert from 'node:assert/strict';
import { before, beforeEach, describe, it } from 'node:test';
import { Address, beginCell, Cell, external, internal, storeMessageRelaxed, type Transaction } from '@ton/core';
import type { Blockchain, BlockchainSnapshot } from '@ton/sandbox';
import { addressOf, body, OP, text, walletInit, walletOrder, type WalletOrder } from './support/cells.ts';
import { CODES, exitCode, keyOf, newChain, received, START, ton, type Wallet } from './support/world.ts';

const KEY = keyOf('wallet');

type Order = Partial<WalletOrder> & { key?: Buffer };

let chain: Blockchain;
let owner: Wallet;
let target: Wallet;
let wallet: Address;
let start: BlockchainSnapshot;

before(async () => {
    chain = await newChain();
    owner = await chain.treasury('owner');
    target = await chain.treasury('target');
    const init = walletInit(owner.address, KEY.publicKey, CODES.wallet);
    wallet = addressOf(init);
    await owner.send({ to: wallet, value: ton('10'), init });
    start = chain.snapshot();
});

beforeEach(() => chain.loadFrom(start));

const message = (value: bigint, to: Address = target.address, content?: Cell) =>
    beginCell().store(storeMessageRelaxed(internal({ to, value, bounce: true, body: content }))).endCell();

const signed = (messages: Cell[], { key, ...order }: Order = {}) =>
    walletOrder(key ?? KEY.secretKey, messages, { validUntil: START + 60, ...order });

const post = async (cell: Cell): Promise<Transaction[]> => (await chain.sendMessage(external({ to: wallet, body: cell }))).transactions;

/** Exit code with which the wallet refuses an external message. */
async function refused(cell: Cell): Promise<number> {
    const before = (await chain.getContract(wallet)).balance;
    const error = await post(cell).then(() => null, (thrown: { exitCode?: number }) => thrown);
    assert.ok(error !== null, 'the message was accepted');
    assert.equal((await chain.getContract(wallet)).balance, before, 'a refused message costs nothing');
    return error.exitCode ?? 0;
}

const get = async (name: string) => (await chain.runGetMethod(wallet, name)).stackReader;
const seqno = async () => (await get('seqno')).readNumber();
const command = async (cell: Cell, from = owner, value = ton('0.1')) =>
    (await from.send({ to: wallet, value, body: cell })).transactions.slice(1);

describe('wallet, external messages', () => {
    it('sends up to four messages and counts on', async () => {
        const sent = await post(signed([1n, 2n, 3n, 4n].map((n) => message(n * ton('0.5')))));
        const values = sent.flatMap((tx) => (tx.inMessage?.info.type === 'internal' ? [tx.inMessage.info.value.coins] : []));
        assert.deepEqual(values, [ton('0.5'), ton('1'), ton('1.5'), ton('2')]);
        assert.equal(await seqno(), 1);
    });

    it('refuses each thing that is wrong with its own code, in the order of the checks', async () => {
        const wrong = { validUntil: START, seqno: 5, subwallet: 1, key: keyOf('other').secretKey };
        assert.equal(await refused(signed([message(1n)], wrong)), 1030);
        assert.equal(await refused(signed([message(1n)], { ...wrong, validUntil: START + 1 })), 1032);
        assert.equal(await refused(signed([message(1n)], { subwallet: 1, key: wrong.key })), 1033);
        assert.equal(await refused(signed([message(1n)], { key: wrong.key })), 1034);
        await command(text('b'));
        assert.equal(await refused(signed([message(1n)], wrong)), 1030, 'expiry comes before the block');
        assert.equal(await refused(signed([message(1n)], { seqno: 5 })), 1031);
    });

    it('is valid until the second before it expires', async () => {
        assert.equal(await refused(signed([message(1n)], { validUntil: START })), 1030);
        await post(signed([message(1n)], { validUntil: START + 1 }));
        assert.equal(await seqno(), 1);
    });

    it('needs 2 TON, to the nanoton', async () => {
        // What the network takes for bringing in a message of this size, before the wallet looks at its balance.
        const importFee = 596_800n;
        const contract = await chain.getContract(wallet);
        contract.balance = ton('2') + importFee - 1n;
        assert.equal(await refused(signed([message(1n)])), 1035);
        contract.balance = ton('2') + importFee;
        await post(signed([message(1n)]));
        assert.equal(await seqno(), 1);
    });

    it('is not repeatable', async () => {
        const order = signed([message(1n)]);
        await post(order);
        assert.equal(await refused(order), 1032);
    });

    it('is not repeatable when a message cannot be sent', async () => {
        const order = signed([message(ton('1000')), message(ton('1'))]);
        const sent = await post(order);
        assert.equal(await seqno(), 1);
        assert.equal(received(sent, target.address, 0).length, 0);
        assert.equal(sent.length, 2, 'the message that can be sent is sent');
        assert.equal(await refused(order), 1032);
    });

    it('is not repeatable when what it sends is no message at all', async () => {
        const order = signed([beginCell().storeUint(5, 3).endCell()]);
        await post(order);
        assert.equal(await seqno(), 1);
        assert.equal(await refused(order), 1032);
    });

    it('refuses modes that could undo the order or delete the wallet, before it pays for gas', async () => {
        for (const mode of [4, 8, 16, 32, 64, 128 + 32, 255]) {
            assert.equal(await refused(signed([message(1n)], { modes: [mode] })), 1004, `mode ${mode}`);
        }
        await post(signed([message(1n), message(2n), message(3n), message(4n)], { modes: [0, 1, 2, 3] }));
        await post(signed([message(0n)], { modes: [128], seqno: 1 }));
        assert.equal((await chain.getContract(wallet)).balance, 0n);
    });

    it('demands one mode for each message', async () => {
        assert.equal(await refused(signed([message(1n)], { modes: [] })), 9);
        assert.equal(await refused(signed([message(1n)], { modes: [1, 1] })), 9);
        assert.equal(await refused(signed([message(1n)], { trailing: 1 })), 9);
        await post(signed([]));
        assert.equal(await seqno(), 1, 'an order without messages is one too');
    });
});

describe('wallet, internal messages', () => {
    it('accepts money and notices from anyone', async () => {
        const notices = [undefined, body(OP.excess, 1n), body(OP.payout, 1n), body(OP.doNotProcess, 1n, (b) => b.storeUint(7, 9))];
        for (const cell of notices) {
            const before = (await chain.getContract(wallet)).balance;
            const sent = (await target.send({ to: wallet, value: ton('1'), body: cell })).transactions.slice(1);
            assert.equal(exitCode(sent, wallet), 0);
            assert.ok((await chain.getContract(wallet)).balance > before + ton('0.99'));
        }
    });

    it('sends what its owner gives it, and nobody else', async () => {
        const order = body(OP.ownerSend, 1n, (b) => b.storeUint(1, 8).storeRef(message(ton('3'))));
        assert.equal(exitCode(await command(order, target), wallet), 1040);
        const sent = await command(order);
        const arrived = sent.find((tx) => tx.inMessage?.info.type === 'internal' && tx.inMessage.info.dest.equals(target.address));
        assert.equal(arrived?.inMessage?.info.type === 'internal' ? arrived.inMessage.info.value.coins : 0n, ton('3'));
        assert.equal(await seqno(), 0, 'the seqno is of external messages only');
    });

    it('gives the owner his value back if what he wants sent cannot be', async () => {
        const order = body(OP.ownerSend, 1n, (b) => b.storeUint(1, 8).storeRef(message(ton('3000'))));
        const before = (await chain.getContract(wallet)).balance;
        const sent = await command(order, owner, ton('1'));
        assert.notEqual(exitCode(sent, wallet), 0);
        assert.equal((await chain.getContract(wallet)).balance, before);
        assert.equal(sent.length, 2, 'it bounces');
    });

    it('withdraws all but 0.01 TON', async () => {
        const sent = await command(text('w'));
        assert.equal((await chain.getContract(wallet)).balance, ton('0.01'));
        const [arrived] = received(sent, owner.address, 0);
        assert.ok(arrived!.value > ton('10.08'));
        assert.ok(arrived!.body.equals(text('w')));
    });

    it('blocks and unblocks external messages', async () => {
        await command(text('b'));
        assert.equal(await refused(signed([message(1n)])), 1031);
        await command(text('u'));
        await post(signed([message(1n)]));
        assert.equal(await seqno(), 1);
    });

    it('refuses strangers and unknown commands', async () => {
        for (const cell of [text('w'), text('b'), text('u'), text('x'), body(0x12345678, 1n)]) {
            assert.equal(exitCode(await command(cell, target), wallet), 1040);
        }
        for (const cell of [text('x'), body(0x12345678, 1n)]) {
            assert.equal(exitCode(await command(cell), wallet), 1041);
        }
        assert.equal(exitCode(await command(text('ww')), wallet), 9);
    });

    it('takes bounced messages as money', async () => {
        const unborn = new Address(0, Buffer.alloc(32, 7));
        const bounceable = message(ton('1'), unborn, body(0x12345678, 1n));
        const sent = await post(signed([bounceable]));
        assert.equal(sent.length, 3);
        assert.equal(sent[2]!.description.type === 'generic' && !sent[2]!.description.aborted, true);
    });
});

describe('wallet, get methods', () => {
    it('tells seqno, key and owner', async () => {
        assert.equal(await seqno(), 0);
        assert.equal((await get('get_public_key')).readBigNumber(), BigInt('0x' + KEY.publicKey.toString('hex')));
        assert.ok((await get('get_owner_address')).readAddress().equals(owner.address));
    });

    it('keeps the layout it is deployed with', async () => {
        await post(signed([message(1n)]));
        const state = (await chain.getContract(wallet)).accountState;
        assert.equal(state?.type, 'active');
        const expected = walletInit(owner.address, KEY.publicKey, CODES.wallet).data.beginParse().skip(32);
        const data = (state as { state: { data: Cell } }).state.data.beginParse();
        assert.equal(data.loadUint(32), 1);
        assert.ok(data.asCell().equals(expected.asCell()));
    });
});
