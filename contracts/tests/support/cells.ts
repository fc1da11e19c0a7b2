// Cells of the contracts as spec/messages.tlb has them, written apart from the Tolk sources.

import { Address, beginCell, Builder, Cell, contractAddress, Slice } from '@ton/core';
import { sign, type KeyPair } from '@ton/crypto';

export const OP = {
    topUp: 0xf172e6c2,
    changeSecretAndTopUp: 0x8473b408,
    clientRegister: 0xc45f9f3b,
    changeSecret: 0xa9357034,
    increaseClientStake: 0x6a1f6a60,
    withdraw: 0xda068e78,
    requestRefund: 0xfafa6cc1,
    charge: 0xbb63ff93,
    grantRefund: 0xefd711e1,
    clientRequest: 0x65448ff4,
    payloadTopUp: 0x5cfc6b87,
    payloadRegister: 0xa35cb580,
    payloadGranted: 0xc68ebc7b,
    payloadForced: 0xf4c354c9,
    topUpConfirmed: 0x7d1c9a05,
    refundShortfall: 0x3be60d42,
    workerRegister: 0x26ed7f65,
    workerPayout: 0xa040ad28,
    workerLastPayout: 0xf5f26a36,
    workerRequest: 0x4d725d2c,
    payloadPayout: 0x08e7d036,
    ownerPayout: 0x7610e6eb,
    increaseProxyStake: 0x9713f187,
    ownerClose: 0xb51d5a01,
    signedClose: 0x636a4391,
    completeClose: 0xe511abc7,
    text: 0,
    doNotProcess: 0x9a1247c0,
    payout: 0xc59a7cd3,
    excess: 0x2565934c,
    ownerSend: 0x9c69f376,
} as const;

/** Orders of a network's owner to its root contract. */
export const ROOT = {
    addWorkerImage: 0xe34b1c60,
    deleteWorkerImage: 0x8d94a79a,
    addModel: 0xc146134d,
    deleteModel: 0x92b11c18,
    addProxyImage: 0x71860e80,
    deleteProxyImage: 0x3c41d0b2,
    registerProxy: 0x927c7cb5,
    unregisterProxy: 0x6d49eaf2,
    replaceProxy: 0x9c7924ba,
    setPrices: 0xc52ed8d4,
    setParams: 0x022fa189,
    setCodes: 0xa2370f61,
    upgradeCode: 0x11aefd51,
    reset: 0x563c1d96,
    upgradeFull: 0x4f7c5789,
    changeOwner: 0xc4a1ae54,
} as const;

/** What a contract is deployed with. */
export interface Init {
    code: Cell;
    data: Cell;
}

export interface Codes {
    proxy: Cell;
    worker: Cell;
    client: Cell;
}

export interface Params {
    paramsVersion: number;
    uniqueId: number;
    isTest: boolean;
    price: bigint;
    workerFee: bigint;
    proxyDelay: number;
    clientDelay: number;
    minProxyStake: bigint;
    minClientStake: bigint;
}

export const PARAMS: Params = {
    paramsVersion: 7,
    uniqueId: 13,
    isTest: true,
    price: 20n,
    workerFee: 15n,
    proxyDelay: 600,
    clientDelay: 300,
    minProxyStake: 20_000_000_000n,
    minClientStake: 1_000_000_000n,
};

/** The parameters with the named codes; the contracts read struct version 3 only. */
export function paramsCell(params: Params, codes: Partial<Codes>, structVersion = 3): Cell {
    return beginCell()
        .storeUint(structVersion, 8)
        .storeUint(params.paramsVersion, 32)
        .storeUint(params.uniqueId, 32)
        .storeBit(params.isTest)
        .storeCoins(params.price)
        .storeCoins(params.workerFee)
        .storeUint(10_000, 32)
        .storeUint(1_000, 32)
        .storeUint(80_000, 32)
        .storeUint(80_001, 32)
        .storeUint(params.proxyDelay, 32)
        .storeUint(params.clientDelay, 32)
        .storeCoins(params.minProxyStake)
        .storeCoins(params.minClientStake)
        .storeMaybeRef(codes.proxy)
        .storeMaybeRef(codes.worker)
        .storeMaybeRef(codes.client)
        .endCell();
}

const key256 = (key: Buffer) => BigInt('0x' + key.toString('hex'));

export function rootInit(owner: Address, params: Params, codes: Codes & { root: Cell }): Init {
    const lists = beginCell().storeBit(0).storeBit(0).storeUint(0, 32).storeBit(0).storeBit(0).endCell();
    const data = beginCell()
        .storeAddress(owner)
        .storeUint(0, 32)
        .storeRef(lists)
        .storeRef(paramsCell(params, codes))
        .endCell();
    return { code: codes.root, data };
}

/** Where a proxy listens, as the root contract stores it. */
export const place = (text: string, first = 0) => (b: Builder) =>
    b.storeBit(first).storeUint(text.length, 7).storeStringTail(text);

export function proxyInit(owner: Address, key: Buffer, root: Address, params: Params, codes: Codes): Init {
    const data = beginCell()
        .storeAddress(owner)
        .storeUint(key256(key), 256)
        .storeAddress(root)
        .storeUint(0, 2)
        .storeCoins(0)
        .storeCoins(0)
        .storeUint(0, 32)
        .storeRef(paramsCell(params, { worker: codes.worker, client: codes.client }))
        .endCell();
    return { code: codes.proxy, data };
}

export function clientInit(owner: Address, proxy: Address, key: Buffer, params: Params, codes: Codes): Init {
    const parties = beginCell().storeAddress(owner).storeAddress(proxy).storeUint(key256(key), 256).endCell();
    const data = beginCell()
        .storeUint(0, 2)
        .storeCoins(0)
        .storeCoins(params.minClientStake)
        .storeUint(0, 64)
        .storeUint(0, 32)
        .storeUint(0, 256)
        .storeRef(parties)
        .storeRef(paramsCell(params, {}))
        .endCell();
    return { code: codes.client, data };
}

export function workerInit(owner: Address, proxy: Address, key: Buffer, params: Params, codes: Codes): Init {
    const data = beginCell()
        .storeAddress(owner)
        .storeAddress(proxy)
        .storeUint(key256(key), 256)
        .storeUint(0, 2)
        .storeUint(0, 64)
        .storeRef(paramsCell(params, {}))
        .endCell();
    return { code: codes.worker, data };
}

export function walletInit(owner: Address, key: Buffer, code: Cell): Init {
    const data = beginCell()
        .storeUint(0, 32)
        .storeUint(0, 32)
        .storeUint(key256(key), 256)
        .storeUint(0, 32)
        .storeAddress(owner)
        .endCell();
    return { code, data };
}

export const addressOf = (init: Init) => contractAddress(0, init);

/** A body: op, query id, then what `fields` writes. */
export function body(op: number, queryId: bigint, fields: (b: Builder) => Builder = (b) => b): Cell {
    return fields(beginCell().storeUint(op, 32).storeUint(queryId, 64)).endCell();
}

export const text = (command: string) => beginCell().storeUint(0, 32).storeStringTail(command).endCell();

export interface WalletOrder {
    subwallet?: number;
    validUntil: number;
    seqno?: number;
    modes?: number[];
    trailing?: number;
}

/** What a node tells its wallet from outside. */
export function walletOrder(key: Buffer, messages: Cell[], order: WalletOrder): Cell {
    const part = beginCell()
        .storeUint(order.subwallet ?? 0, 32)
        .storeUint(order.validUntil, 32)
        .storeUint(order.seqno ?? 0, 32);
    for (const mode of order.modes ?? messages.map(() => 1)) part.storeUint(mode, 8);
    part.storeUint(0, order.trailing ?? 0);
    for (const cell of messages) part.storeRef(cell);
    const cell = part.endCell();
    return beginCell().storeBuffer(sign(cell.hash(), key)).storeSlice(cell.beginParse()).endCell();
}

export interface OrderOptions {
    queryId?: bigint;
    /** The envelope's op and query id, if they shall differ from the signed ones. */
    envelopeOp?: number;
    envelopeQueryId?: bigint;
    /** Bits after the signed fields. */
    trailing?: number;
}

/** An order for `contract` in its envelope; without `tokens` it is one for the proxy contract. */
export function order(
    key: KeyPair,
    op: number,
    contract: Address,
    excess: Address,
    tokens?: bigint,
    options: OrderOptions = {},
): Cell {
    const queryId = options.queryId ?? 77n;
    const inner = body(op, queryId, (b) => {
        if (tokens !== undefined) b.storeUint(tokens, 64);
        return b.storeAddress(contract).storeUint(0, options.trailing ?? 0);
    });
    return body(options.envelopeOp ?? op, options.envelopeQueryId ?? queryId, (b) =>
        b.storeAddress(excess).storeBuffer(sign(inner.hash(), key.secretKey)).storeRef(inner),
    );
}

/** The trailing reference with an amount that a client or proxy contract may have. */
const trailing = (slice: Slice) => (slice.remainingRefs > 0 ? slice.loadRef().beginParse().loadCoins() : 0n);

export function readClient(data: Cell) {
    const s = data.beginParse();
    const read = {
        state: s.loadUint(2),
        balance: s.loadCoins(),
        stake: s.loadCoins(),
        tokensUsed: s.loadUintBig(64),
        unlockTs: s.loadUint(32),
        secretHash: s.loadUintBig(256),
    };
    s.loadRef();
    s.loadRef();
    return { ...read, unconfirmed: trailing(s) };
}

export function readWorker(data: Cell) {
    const s = data.beginParse();
    s.skip(267 + 267 + 256);
    return { state: s.loadUint(2), tokens: s.loadUintBig(64) };
}

export function readProxy(data: Cell) {
    const s = data.beginParse();
    s.skip(267 + 256 + 267);
    const read = {
        state: s.loadUint(2),
        balance: s.loadCoins(),
        stake: s.loadCoins(),
        unlockTs: s.loadUint(32),
    };
    s.loadRef();
    return { ...read, pool: trailing(s) };
}
