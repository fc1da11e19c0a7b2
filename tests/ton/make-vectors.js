// Writes spec/vectors/ton/human-wallets.json with the official SDK, and the codes of the wallets into crates/ton/codes:
//   npm ci && node make-vectors.js
"use strict";
const { writeFileSync, mkdirSync } = require("node:fs");
const { join } = require("node:path");
const { Address, SendMode, beginCell, internal, storeMessageRelaxed } = require("@ton/core");
const { mnemonicToPrivateKey, sha256_sync } = require("@ton/crypto");
const { WalletContractV4, WalletContractV5R1 } = require("@ton/ton");

const ROOT = join(__dirname, "..", "..");
const OTHER = new Address(0, sha256_sync("receiver"));
const VALID_UNTIL = 1_800_000_000;
const hex = (bytes) => Buffer.from(bytes).toString("hex");
const boc = (cell) => cell.toBoc({ idx: false, crc32: false }).toString("hex");

// Wallets of play money, printed here for ever: never use them for anything.
const MNEMONICS = [
    { words: "rail sound peasant garment bounce trigger true abuse arctic gravity ribbon ocean absurd okay blue remove neck cash reflect sleep hen portion gossip arrow" },
    { words: "prefer camera toy casino brick job month key actress spell eye message person unusual snap return swear lift task citizen mean patrol aim stuff" },
    {
        words: "coffee parrot elder suffer round shell shine border mammal south style pet senior online amazing enemy husband stone useful silk buzz twice bronze bargain",
        password: "a password, größer",
    },
];

const VERSIONS = {
    v4r2: (publicKey, _network) => WalletContractV4.create({ workchain: 0, publicKey }),
    v5r1: (publicKey, networkGlobalId) =>
        WalletContractV5R1.create({ workchain: 0, publicKey, walletId: { networkGlobalId } }),
};
const NETWORKS = { mainnet: -239, testnet: -3 };

function transfers(wallet, secretKey) {
    const messages = [
        internal({ to: OTHER, value: 1_500_000_000n, bounce: false, body: "hello" }),
        internal({ to: OTHER, value: 1n, bounce: true, body: beginCell().storeUint(7, 32).endCell() }),
    ];
    return [0, 1, 2].map((count) => ({
        seqno: 5 + count,
        valid_until: VALID_UNTIL,
        mode: 3,
        messages: messages.slice(0, count).map((message) => boc(beginCell().store(storeMessageRelaxed(message)).endCell())),
        body: boc(
            wallet.createTransfer({
                seqno: 5 + count,
                timeout: VALID_UNTIL,
                sendMode: SendMode.PAY_GAS_SEPARATELY | SendMode.IGNORE_ERRORS,
                secretKey,
                messages: messages.slice(0, count),
            }),
        ),
    }));
}

async function main() {
    const wallets = [];
    for (const { words, password } of MNEMONICS) {
        const { publicKey, secretKey } = await mnemonicToPrivateKey(words.split(" "), password);
        const contracts = Object.entries(VERSIONS).flatMap(([version, create]) =>
            Object.entries(NETWORKS).map(([network, id]) => {
                const wallet = create(publicKey, id);
                return {
                    version,
                    network,
                    address: wallet.address.toRawString(),
                    data: boc(wallet.init.data),
                    transfers: transfers(wallet, secretKey),
                };
            }),
        );
        wallets.push({ words, password: password ?? "", seed: hex(secretKey.subarray(0, 32)), public_key: hex(publicKey), contracts });
    }
    const about = "Wallets of people as the official SDK makes them: mnemonics, addresses, transfers. tests/ton/make-vectors.js writes this file.";
    writeFileSync(join(ROOT, "spec/vectors/ton/human-wallets.json"), JSON.stringify({ about, wallets }, null, 2) + "\n");
    mkdirSync(join(ROOT, "crates/ton/codes"), { recursive: true });
    for (const [version, create] of Object.entries(VERSIONS)) {
        const { code } = create(Buffer.alloc(32), -239).init;
        writeFileSync(join(ROOT, `crates/ton/codes/wallet-${version}.boc`), code.toBoc({ idx: false, crc32: false }));
    }
}

main();
