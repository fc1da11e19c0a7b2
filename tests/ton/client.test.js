// TonClient of @ton/ton against `cocoon devnet`: what wallets and deployment tools do with a public server.
"use strict";
const assert = require("node:assert/strict");
const { after, before, describe, test } = require("node:test");
const { Address, SendMode, beginCell, internal, toNano } = require("@ton/core");
const { keyPairFromSeed } = require("@ton/crypto");
const { WalletContractV3R2, WalletContractV4, WalletContractV5R1 } = require("@ton/ton");
const { Devnet } = require("./devnet.js");

const NOBODY = new Address(0, Buffer.alloc(32, 1));

for (const flags of [["--instant"], ["--pace", "50"]]) {
    describe(`cocoon devnet ${flags.join(" ")}`, () => {
        let devnet;
        before(async () => { devnet = await Devnet.start(...flags); });
        after(async () => { assert.equal(await devnet.stop(), 0); });

        for (const [index, type] of [WalletContractV3R2, WalletContractV4, WalletContractV5R1].entries()) {
            test(`${type.name} is deployed with its first transfer, and read back`, async () => {
                const { client } = devnet;
                const keys = keyPairFromSeed(Buffer.alloc(32, 7 + index));
                const wallet = client.open(type.create({ workchain: 0, publicKey: keys.publicKey }));
                assert.equal(await wallet.getBalance(), 0n);
                assert.equal(await client.isContractDeployed(wallet.address), false);
                await devnet.give(wallet.address, toNano("10"));
                await devnet.until(async () => (await wallet.getBalance()) > 0n);
                assert.equal(await wallet.getSeqno(), 0);

                // Nobody pays rent for a moment, so nobody's balance is not looked at to the nanoton.
                const tons = async () => Math.round(Number(await client.getBalance(NOBODY)) / 1e8) / 10;
                const before = await tons();
                const transfer = {
                    seqno: 0,
                    secretKey: keys.secretKey,
                    sendMode: SendMode.PAY_GAS_SEPARATELY | SendMode.IGNORE_ERRORS,
                    messages: [internal({ to: NOBODY, value: "1.5", bounce: false, body: "for nobody" })],
                };
                const body = await wallet.createTransfer(transfer);
                const { init } = wallet;
                const estimate = { body, initCode: init.code, initData: init.data, ignoreSignature: true };
                const { source_fees: fees } = await client.estimateExternalMessageFee(wallet.address, estimate);
                await wallet.sendTransfer(transfer);
                await devnet.until(async () => (await wallet.getSeqno()) === 1);
                await devnet.until(async () => (await tons()) === before + 1.5);
                assert.equal(await client.isContractDeployed(wallet.address), true);

                const [sent, given] = await client.getTransactions(wallet.address, { limit: 10 });
                assert.equal(given.inMessage.info.value.coins, toNano("10"));
                assert.equal(sent.inMessage.info.type, "external-in");
                assert.equal(sent.outMessages.get(0).info.value.coins, toNano("1.5"));
                assert.equal(sent.description.computePhase.exitCode, 0);
                assert.equal(sent.prevTransactionLt, given.lt);
                const paid = toNano("10") - toNano("1.5") - (await wallet.getBalance());
                const estimated = fees.in_fwd_fee + fees.storage_fee + fees.gas_fee + fees.fwd_fee;
                // The rent of a moment may pass between estimate and transfer.
                assert.ok(Math.abs(Number(paid) - estimated) < 1000, `${paid} paid, ${estimated} estimated`);

                const id = given.hash().toString("base64");
                const again = await client.getTransaction(wallet.address, given.lt.toString(), id);
                assert.ok(again.hash().equals(given.hash()));
                const created = sent.outMessages.get(0).info.createdLt.toString();
                const arrived = await client.tryLocateResultTx(wallet.address, NOBODY, created);
                assert.equal(arrived.inMessage.info.createdLt.toString(), created);
                const source = await client.tryLocateSourceTx(wallet.address, NOBODY, created);
                assert.ok(source.hash().equals(sent.hash()));

                await assert.rejects(wallet.sendTransfer(transfer), /500/, "the seqno is used up");
            });
        }

        test("get methods take arguments and return every kind of value", async () => {
            const { client } = devnet;
            const keys = keyPairFromSeed(Buffer.alloc(32, 8));
            const wallet = WalletContractV4.create({ workchain: 0, publicKey: keys.publicKey });
            const key = await client.runMethod(wallet.address, "get_public_key");
            assert.equal(key.stack.readBigNumber(), BigInt(`0x${keys.publicKey.toString("hex")}`));
            const plugin = [{ type: "int", value: 0n }, { type: "int", value: 5n }];
            const { stack } = await client.runMethod(wallet.address, "is_plugin_installed", plugin);
            assert.equal(stack.readNumber(), 0);
            const plugins = await client.runMethod(wallet.address, "get_plugin_list");
            assert.equal(plugins.stack.readTupleOpt(), null);
            await assert.rejects(client.runMethod(wallet.address, "no_such_method"), /exit_code: 11/);
        });

        test("blocks and their transactions are found", async () => {
            const { client } = devnet;
            const info = await client.getMasterchainInfo();
            const shards = await client.getWorkchainShards(info.latestSeqno);
            assert.deepEqual(shards.map(({ workchain, seqno }) => [workchain, seqno]), [[0, info.latestSeqno]]);
            const [last] = await client.getTransactions(NOBODY, { limit: 1 });
            const place = { workchain: 0, shard: shards[0].shard };
            const block = await devnet.post("/api/v2/lookupBlock", { ...place, lt: last.lt.toString() });
            const inside = await client.getShardTransactions(0, block.seqno, shards[0].shard);
            assert.ok(inside.some(({ account, lt }) => account.equals(NOBODY) && lt === last.lt.toString()));
        });

        test("a contract of one's own is deployed by a wallet", async () => {
            const { client } = devnet;
            const keys = keyPairFromSeed(Buffer.alloc(32, 7));
            const wallet = client.open(WalletContractV3R2.create({ workchain: 0, publicKey: keys.publicKey }));
            const other = client.open(WalletContractV4.create({ workchain: 0, publicKey: Buffer.alloc(32, 99) }));
            const seqno = await wallet.getSeqno();
            const deploy = internal({ to: other.address, value: "1", bounce: false, init: other.init, body: beginCell().endCell() });
            await wallet.sendTransfer({ seqno, secretKey: keys.secretKey, messages: [deploy] });
            await devnet.until(() => client.isContractDeployed(other.address));
            assert.equal(await other.getSeqno(), 0);
            const told = await devnet.post("/api/v2/getWalletInformation", { address: other.address.toString() });
            assert.deepEqual([told.wallet, told.wallet_type, told.seqno, told.wallet_id], [true, "wallet v4 r2", 0, 698983191]);
        });

        test("time can be moved on", async () => {
            const before = (await devnet.client.getContractState(NOBODY)).timestampt;
            await devnet.post("/travel", { seconds: 86_400 });
            await devnet.give(NOBODY, 1n);
            await devnet.until(async () => (await devnet.client.getContractState(NOBODY)).timestampt >= before + 86_400);
        });
    });
}
