// Plays wallets and pilots in TON's reference emulator and writes down every transaction: account before, message, time,
// logical time and seed, and what came of it. The same script writes the same corpus: its dice are seeded.
"use strict";
const crypto = require("node:crypto");
const fs = require("node:fs");
const path = require("node:path");
const zlib = require("node:zlib");
const {
    Address, Cell, Dictionary, SendMode, beginCell, comment, contractAddress, external, internal, storeMessageRelaxed, toNano,
} = require("@ton/core");
const { keyPairFromSeed, sign } = require("@ton/crypto");
const { Blockchain } = require("@ton/sandbox");
const { WalletContractV3R2, WalletContractV4, WalletContractV5R1 } = require("@ton/ton");
const { runTolkCompiler } = require("@ton/tolk-js");

const START = 1_800_000_000;

/** Dice that fall the same way every time. */
class Dice {
    constructor(seed) {
        this.state = crypto.createHash("sha256").update(seed).digest();
    }
    bytes() {
        this.state = crypto.createHash("sha256").update(this.state).digest();
        return this.state;
    }
    below(limit) {
        return this.bytes().readUInt32BE(0) % limit;
    }
    pick(items) {
        return items[this.below(items.length)];
    }
}

class World {
    static async create(seed) {
        const world = new World();
        world.dice = new Dice(seed);
        world.records = [];
        world.chain = await Blockchain.create({ config: "slim" });
        world.chain.now = START;
        const executor = world.chain.executor;
        const run = executor.runTransaction.bind(executor);
        executor.runTransaction = async (args) => {
            const answer = await run(args);
            world.records.push({ args, result: answer.result });
            return answer;
        };
        return world;
    }

    /** Sends from outside or out of nowhere, with all that follows. What is refused is recorded too. */
    async send(message) {
        this.chain.random = this.dice.bytes();
        this.chain.now += this.dice.below(100_000);
        try {
            await this.chain.sendMessage(message);
        } catch (error) {
            const isRefusal = !this.records.at(-1).result.success;
            if (message.info.type !== "external-in" || !isRefusal) {
                throw error;
            }
        }
    }

    give(to, amount, body, bounce = false) {
        const message = internal({ to, value: amount, bounce, body: body ?? Cell.EMPTY });
        message.info.src = new Address(-1, Buffer.alloc(32));
        return this.send(message);
    }
}

/** A message as contracts hand it to their actions. */
function transfer(to, value, bounce, body = Cell.EMPTY) {
    return {
        info: {
            type: "internal", ihrDisabled: true, bounce, bounced: false, src: null, dest: to,
            value: { coins: value }, ihrFee: 0n, forwardFee: 0n, createdLt: 0n, createdAt: 0,
        },
        init: null,
        body,
    };
}

class Wallet {
    constructor(world, type, index) {
        this.world = world;
        this.keys = keyPairFromSeed(new Dice(`wallet ${index}`).bytes());
        this.contract = type.create({ workchain: 0, publicKey: this.keys.publicKey });
        this.seqno = 0;
    }
    get address() {
        return this.contract.address;
    }
    async transfer(messages, sendMode, { wrongKey = false, expired = false } = {}) {
        const body = await this.contract.createTransfer({
            seqno: this.seqno,
            secretKey: wrongKey ? keyPairFromSeed(Buffer.alloc(32, 9)).secretKey : this.keys.secretKey,
            timeout: this.world.chain.now + (expired ? -1 : 1_000_000),
            sendMode,
            messages,
        });
        const init = this.seqno === 0 ? this.contract.init : undefined;
        await this.world.send(external({ to: this.address, init, body }));
        if (!wrongKey && !expired) {
            this.seqno += 1;
        }
    }
}

class Pilot {
    constructor(world, code, salt) {
        this.world = world;
        const data = beginCell().storeUint(0, 32).storeUint(salt, 64).storeBit(false).endCell();
        this.init = { code, data };
        this.address = contractAddress(0, this.init);
        this.seqno = 0;
    }
    async order(messages, seqno = this.seqno) {
        const body = beginCell().storeUint(seqno, 32);
        for (const [mode, message] of messages) {
            body.storeUint(mode, 8).storeRef(beginCell().store(storeMessageRelaxed(message)).endCell());
        }
        const init = this.seqno === 0 ? this.init : undefined;
        await this.world.send(external({ to: this.address, init, body: body.endCell() }));
        if (seqno === this.seqno) {
            this.seqno += 1;
        }
    }
}

/** The pilot's code, which is written to pilot.boc as well. */
async function compilePilot() {
    const compiled = await runTolkCompiler({
        entrypointFileName: "pilot.tolk",
        fsReadCallback: (name) => fs.readFileSync(path.join(__dirname, name), "utf8"),
    });
    if (compiled.status !== "ok") {
        throw new Error(compiled.message);
    }
    const code = Buffer.from(compiled.codeBoc64, "base64");
    fs.writeFileSync(path.join(__dirname, "pilot.boc"), code);
    return Cell.fromBoc(code)[0];
}

/** A body for each thing that a pilot can do. */
function deed(world, op, pilots, code) {
    const { dice } = world;
    const body = beginCell().storeUint(op, 32);
    const somebody = () => dice.pick([...pilots.map((pilot) => pilot.address), new Address(0, dice.bytes())]);
    const tree = (depth) => {
        const cell = beginCell().storeBuffer(dice.bytes());
        for (let child = 0; depth > 0 && child < 2; child++) {
            cell.storeRef(tree(depth - 1));
        }
        return cell.endCell();
    };
    switch (op) {
        case 1: return body.storeUint(dice.below(65536), 16).endCell();
        case 2: return body.storeUint(dice.below(2 ** 31), 32).endCell();
        case 3: return body.storeAddress(somebody()).storeUint(dice.below(30), 8).storeUint(dice.pick([0, 1, 2, 3, 16]), 8).endCell();
        case 5: return body.storeRef(code).endCell();
        case 6: return body.storeAddress(somebody()).endCell();
        case 7: return body.storeUint(dice.pick([0, 1, 2, 3, 16]), 8).endCell();
        case 8: return body.storeRef(tree(dice.below(6))).endCell();
        case 9: return body.storeUint(dice.below(2 ** 31), 32).endCell();
        case 10: return body.storeUint(0, 64).endCell();
        case 11: {
            const keys = keyPairFromSeed(dice.bytes());
            const hash = dice.bytes();
            const signature = sign(dice.below(2) === 0 ? hash : dice.bytes(), keys.secretKey);
            return body.storeBuffer(keys.publicKey).storeBuffer(hash).storeRef(beginCell().storeBuffer(signature)).endCell();
        }
        case 13: return body.storeUint(dice.below(40), 8).endCell();
        default: return body.endCell();
    }
}

async function playWallets(world) {
    const types = [WalletContractV3R2, WalletContractV4, WalletContractV5R1];
    const wallets = types.map((type, index) => new Wallet(world, type, index));
    for (const wallet of wallets) {
        await world.give(wallet.address, toNano("100"));
        await wallet.transfer([], SendMode.PAY_GAS_SEPARATELY | SendMode.IGNORE_ERRORS);
    }
    for (let round = 0; round < 12; round++) {
        for (const wallet of wallets) {
            const to = () => world.dice.pick([...wallets.map((other) => other.address), new Address(0, world.dice.bytes())]);
            const messages = Array.from({ length: 1 + world.dice.below(4) }, () =>
                transfer(to(), toNano("0.1") + BigInt(world.dice.below(1e9)), world.dice.below(2) === 0, comment(`round ${round}`)));
            await wallet.transfer(messages, SendMode.PAY_GAS_SEPARATELY | SendMode.IGNORE_ERRORS);
        }
    }
    for (const wallet of wallets) {
        await wallet.transfer([], 3, { wrongKey: true });
        await wallet.transfer([], 3, { expired: true });
        await wallet.transfer([transfer(wallets[0].address, toNano("1000000"), true)], SendMode.PAY_GAS_SEPARATELY | SendMode.IGNORE_ERRORS);
        await wallet.transfer([transfer(wallets[1].address, 0n, false)], SendMode.CARRY_ALL_REMAINING_BALANCE | SendMode.IGNORE_ERRORS);
    }
}

async function playPilots(world, code) {
    const pilots = Array.from({ length: 4 }, (_, index) => new Pilot(world, code, index));
    for (const pilot of pilots) {
        await world.give(pilot.address, toNano("20"));
        await pilot.order([]);
        await pilot.order([], 77);
    }
    for (let round = 0; round < 75; round++) {
        const op = round % 15;
        const pilot = world.dice.pick(pilots);
        const to = world.dice.pick(pilots);
        // Two that play with each other stop when little is left.
        const values = op === 10 ? ["0.1"] : ["0.000000001", "0.005", "0.02", "0.3", "1.5"];
        const value = toNano(world.dice.pick(values));
        if (world.dice.below(4) === 0) {
            await world.give(to.address, value, deed(world, op, pilots, code), world.dice.below(2) === 0);
        } else {
            const message = transfer(to.address, value, world.dice.below(4) !== 0, deed(world, op, pilots, code));
            await pilot.order([[world.dice.pick([0, 1, 2, 3]), message]]);
        }
        if (op === 6) {
            // Whoever vanished comes back.
            await world.give(to.address, toNano("5"));
            await world.send(external({ to: to.address, init: to.init, body: beginCell().storeUint(0, 32).endCell() }));
            const state = (await world.chain.getContract(to.address)).accountState;
            if (state?.type === "active" && state.state.data.beginParse().loadUint(32) <= 1) {
                to.seqno = state.state.data.beginParse().loadUint(32);
            }
        }
    }
    // Rent that eats an account up: it freezes, and comes back.
    const poor = new Pilot(world, code, 1000);
    await world.give(poor.address, toNano("0.02"));
    await poor.order([]);
    for (const years of [1, 30, 300]) {
        world.chain.now = Math.min(world.chain.now + years * 31_000_000, 4_294_000_000);
        await world.give(poor.address, 1n);
        await world.give(poor.address, toNano("0.5"));
    }
}

/** One bag of cells for all records: what they share, code above all, is in it once. */
function pack(records) {
    const packed = Dictionary.empty(Dictionary.Keys.Uint(16), Dictionary.Values.Cell());
    records.forEach(({ args, result }, index) => {
        const record = beginCell()
            .storeUint(args.now, 32)
            .storeUint(args.lt, 64)
            .storeBuffer(args.randomSeed)
            .storeBit(result.success)
            .storeRef(beginCell().storeRef(Cell.fromBase64(args.shardAccount)).storeRef(args.message));
        if (result.success) {
            record.storeRef(
                beginCell().storeRef(Cell.fromBase64(result.transaction)).storeRef(Cell.fromBase64(result.shardAccount)));
        }
        packed.set(index, record.endCell());
    });
    return beginCell().storeDictDirect(packed).endCell().toBoc({ crc32: true });
}

async function main() {
    const code = await compilePilot();
    const records = [];
    for (const play of [playWallets, playPilots]) {
        const world = await World.create(play.name);
        await play(world, code);
        records.push(...world.records);
    }
    const boc = pack(records);
    fs.writeFileSync(path.join(__dirname, "..", "corpus.boc"), boc);
    const refused = records.filter(({ result }) => !result.success).length;
    console.log(`${records.length} messages, ${refused} of them refused; ${boc.length} bytes, ${zlib.deflateSync(boc).length} deflated`);
}

main();
