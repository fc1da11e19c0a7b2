// The lives of a root contract and of a node wallet: every order that their owners have, once.

import { beginCell, Cell, external, internal, storeMessageRelaxed, type Builder } from '@ton/core';
import { addressOf, body, OP, PARAMS, paramsCell, place, ROOT, rootInit, text, walletInit, walletOrder } from './cells.ts';
import { CODES, keyOf, newChain, START, ton } from './world.ts';

export async function liveOwners(): Promise<void> {
    await liveRoot();
    await liveWallet();
}

async function liveRoot() {
    const chain = await newChain();
    const owner = await chain.treasury('network owner');
    const heir = await chain.treasury('heir');
    const init = rootInit(owner.address, PARAMS, CODES);
    const root = addressOf(init);
    await owner.send({ to: root, value: ton('0.3'), init });
    let queryId = 0n;
    const order = async (op: number, fields?: (b: Builder) => Builder, from = owner) => {
        await from.send({ to: root, value: ton('0.1'), body: body(op, (queryId += 1n), fields) });
    };
    for (const hash of [1n, 2n, 1n << 255n]) {
        for (const op of [ROOT.addProxyImage, ROOT.addWorkerImage, ROOT.addModel]) {
            await order(op, (b) => b.storeUint(hash, 256));
        }
    }
    for (const op of [ROOT.deleteProxyImage, ROOT.deleteWorkerImage, ROOT.deleteModel]) await order(op, (b) => b.storeUint(2, 256));
    for (const text of ['10.0.0.1:9000', '10.0.0.2:9000 10.0.0.2:9001', '10.0.0.3:1']) await order(ROOT.registerProxy, place(text));
    await order(ROOT.replaceProxy, (b) => place('10.0.0.4:9000')(b.storeUint(1, 32)));
    await order(ROOT.unregisterProxy, (b) => b.storeUint(2, 32));
    await order(ROOT.setPrices, (b) => b.storeCoins(31).storeCoins(30));
    await order(ROOT.setParams, (b) =>
        b.storeCoins(3).storeCoins(2).storeUint(11, 32).storeUint(10, 32).storeCoins(ton('5')).storeCoins(ton('4')));
    await order(ROOT.setCodes, (b) => b.storeRef(CODES.proxy).storeRef(CODES.client).storeRef(CODES.worker));
    await order(ROOT.upgradeCode, (b) => b.storeRef(CODES.root));
    const lists = beginCell().storeBit(0).storeBit(0).storeUint(9, 32).storeBit(0).storeBit(0).endCell();
    const params = paramsCell({ ...PARAMS, paramsVersion: 40 }, CODES);
    const data = beginCell().storeAddress(owner.address).storeUint(50, 32).storeRef(lists).storeRef(params).endCell();
    await order(ROOT.upgradeFull, (b) => b.storeRef(data).storeRef(CODES.root));
    await order(ROOT.addModel, (b) => b.storeUint(7, 256));
    await order(ROOT.reset);
    await order(ROOT.changeOwner, (b) => b.storeAddress(heir.address));
    // Refused, and then obeyed.
    for (const from of [owner, heir]) await order(ROOT.addModel, (b) => b.storeUint(8, 256), from);
}

async function liveWallet() {
    const chain = await newChain();
    const owner = await chain.treasury('wallet owner');
    const target = await chain.treasury('target');
    const key = keyOf('wallet');
    const init = walletInit(owner.address, key.publicKey, CODES.wallet);
    const wallet = addressOf(init);
    await owner.send({ to: wallet, value: ton('10'), init });
    const message = (value: bigint) =>
        beginCell().store(storeMessageRelaxed(internal({ to: target.address, value, bounce: true }))).endCell();
    const post = async (messages: Cell[], seqno: number, modes?: number[]) => {
        const cell = walletOrder(key.secretKey, messages, { validUntil: START + 60, seqno, modes });
        // What the wallet refuses, the emulator throws.
        await chain.sendMessage(external({ to: wallet, body: cell })).catch(() => undefined);
    };
    const command = (cell: Cell) => owner.send({ to: wallet, value: ton('0.1'), body: cell });
    await post([message(1n), message(2n), message(3n), message(4n)], 0);
    await post([], 1);
    await command(text('b'));
    await post([message(1n)], 2);
    await command(text('u'));
    await post([message(1n)], 2, [3]);
    await command(body(OP.ownerSend, 5n, (b) => b.storeUint(1, 8).storeRef(message(ton('1')))));
    await command(text('w'));
}
