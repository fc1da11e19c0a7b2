// Faults planted in copies of the sources: for each, the named tests must fail. What they do not notice is not tested.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { committed, compile, CONTRACTS, FOLDER, readSource, toFile } from '../../scripts/compile.ts';

/** In `file`, the text `from` becomes `to`; the tests of `caught` notice. */
interface Fault {
    file: string;
    from: string;
    to: string;
    caught: string;
}

const FAULTS: Fault[] = [
    // Who may call.
    { file: 'client', from: 'assert (in.senderAddress == client.parties.load().owner) throw ERR_NOT_OWNER;', to: '', caught: 'client' },
    { file: 'client', from: 'assert (in.senderAddress == client.parties.load().owner) throw ERR_OWNER_EXPECTED;', to: '', caught: 'client' },
    { file: 'client', from: 'assert (sender == client.parties.load().proxy) throw ERR_SENDER_ADDRESS;', to: '', caught: 'client' },
    { file: 'settling', from: 'sender != proxy || ', to: '', caught: 'failures' },
    { file: 'worker', from: 'assert (in.senderAddress == worker.owner) throw ERR_NOT_OWNER;', to: '', caught: 'worker' },
    { file: 'proxy', from: 'assert (in.senderAddress == workerAddress(proxy.publicKey, request.owner, proxy.params)) throw ERR_SENDER_ADDRESS;', to: '', caught: 'proxy' },
    { file: 'proxy', from: 'assert (in.senderAddress == clientAddress(proxy.publicKey, request.owner, proxy.params)) throw ERR_SENDER_ADDRESS;', to: '', caught: 'proxy' },
    { file: 'proxy', from: 'assert (in.senderAddress == proxy.owner) throw ERR_NOT_OWNER;', to: '', caught: 'proxy' },
    { file: 'root', from: 'assert (in.senderAddress == caller) throw ERR_NOT_OWNER;', to: '', caught: 'root' },
    { file: 'wallet', from: 'assert (in.senderAddress == WalletStorage.load().owner) throw ERR_WALLET_NOT_OWNER;', to: '', caught: 'wallet' },
    // Signatures, replays, addresses.
    { file: 'orders', from: 'assert (isSignatureValid(envelope.order.hash(), envelope.signature as slice, publicKey)) throw ERR_SIGNATURE;', to: '', caught: 'client' },
    { file: 'orders', from: 'assert ((order.op == envelope.op) & (order.queryId == envelope.queryId)) throw ERR_SIGNED_FORMAT;', to: '', caught: 'worker' },
    { file: 'orders', from: '& (order.queryId == envelope.queryId)', to: '', caught: 'worker' },
    { file: 'client', from: 'order.tokens > client.tokensUsed', to: 'order.tokens >= client.tokensUsed', caught: 'client' },
    { file: 'client', from: 'order.tokens >= client.tokensUsed', to: 'order.tokens > client.tokensUsed', caught: 'client' },
    { file: 'client', from: 'assert (order.contract == contract.getAddress()) throw ERR_ORDER_ADDRESS;', to: '', caught: 'client' },
    { file: 'worker', from: 'order.tokens > worker.tokens', to: 'order.tokens >= worker.tokens', caught: 'worker' },
    { file: 'worker', from: 'assert (order.tokens >= worker.tokens) throw ERR_OLD_ORDER;', to: '', caught: 'worker' },
    { file: 'worker', from: 'assert (order.contract == contract.getAddress()) throw ERR_ORDER_ADDRESS;', to: '', caught: 'worker' },
    { file: 'proxy', from: 'assert (order.contract == contract.getAddress()) throw ERR_ORDER_ADDRESS;', to: '', caught: 'proxy' },
    { file: 'wallet', from: 'assert (signed.seqno == wallet.seqno) throw ERR_WALLET_SEQNO;', to: '', caught: 'wallet' },
    { file: 'wallet', from: '| SEND_MODE_IGNORE_ERRORS', to: '', caught: 'wallet' },
    { file: 'wallet', from: 'checkModes(signed.modes);', to: '', caught: 'wallet' },
    { file: 'wallet', from: 'contract.getOriginalBalance() >= WALLET_RESERVE', to: 'contract.getOriginalBalance() > WALLET_RESERVE', caught: 'wallet' },
    { file: 'wallet', from: 'signed.validUntil > blockchain.now()', to: 'signed.validUntil >= blockchain.now()', caught: 'wallet' },
    // Prices and amounts.
    { file: 'client', from: '* network.pricePerToken', to: '* network.pricePerToken * 2', caught: 'client' },
    { file: 'client', from: '* network.pricePerToken', to: '* network.workerFeePerToken', caught: 'client' },
    { file: 'worker', from: 'owed * network.workerFeePerToken', to: 'owed * network.workerFeePerToken * 2', caught: 'worker' },
    { file: 'worker', from: '(network.pricePerToken - network.workerFeePerToken)', to: 'network.pricePerToken', caught: 'worker' },
    { file: 'client', from: 'self.tokensUsed = tokens;', to: '', caught: 'client' },
    { file: 'worker', from: 'self.tokens = order.tokens;', to: '', caught: 'worker' },
    { file: 'proxy', from: 'proxy.balance += payload.proxyPart;', to: 'proxy.balance += payload.workerPart;', caught: 'worker' },
    { file: 'proxy', from: 'reserve(before + asked.amount);', to: 'reserve(before);', caught: 'client' },
    { file: 'proxy', from: 'reserve(before - payload.workerPart);', to: 'reserve(before - payload.workerPart - payload.proxyPart);', caught: 'worker' },
    { file: 'proxy', from: 'self.pool += asked.amount;', to: '', caught: 'client' },
    { file: 'proxy', from: 'self.pool -= amount;', to: '', caught: 'client' },
    { file: 'proxy', from: 'self.stake -= paid;', to: '', caught: 'client' },
    { file: 'proxy', from: 'paid = min(paid, self.stake);', to: '', caught: 'failures' },
    { file: 'proxy', from: 'proxy.stake += request.amount;', to: 'proxy.stake += request.amount * 2;', caught: 'proxy' },
    { file: 'proxy', from: 'self.balance = 0;\n    self.save();\n    return amount;', to: 'self.save();\n    return amount;', caught: 'proxy' },
    { file: 'client', from: 'self.balance += amount;\n    self.unconfirmed += amount;', to: 'self.balance += amount * 2;\n    self.unconfirmed += amount;', caught: 'client' },
    { file: 'addresses', from: 'stake: network.minClientStake,', to: 'stake: 0,', caught: 'client' },
    // Values and boundaries.
    { file: 'client', from: 'value >= COMMISSION + amount', to: 'value >= amount', caught: 'client' },
    { file: 'client', from: 'contract.getOriginalBalance() >= kept + COMMISSION + amount', to: 'contract.getOriginalBalance() >= COMMISSION', caught: 'client' },
    { file: 'worker', from: 'assert (value > COMMISSION)', to: 'assert (value >= COMMISSION)', caught: 'worker' },
    { file: 'client', from: 'client.available() > client.stake) throw', to: 'client.available() >= client.stake) throw', caught: 'client' },
    { file: 'client', from: 'request.newStake > client.stake', to: 'request.newStake >= client.stake', caught: 'client' },
    { file: 'client', from: 'client.unlockTs < blockchain.now()', to: 'client.unlockTs <= blockchain.now()', caught: 'client' },
    { file: 'proxy', from: 'proxy.unlockTs <= blockchain.now()', to: 'proxy.unlockTs < blockchain.now()', caught: 'proxy' },
    { file: 'proxy', from: 'assert (proxy.unlockTs <= blockchain.now()) throw ERR_LOCKED;', to: '', caught: 'proxy' },
    { file: 'proxy', from: 'assert (self.stake >= network.minProxyStake) throw ERR_STAKE_TOO_LOW;', to: '', caught: 'proxy' },
    { file: 'proxy', from: 'self.stake >= network.minProxyStake', to: 'self.stake > network.minProxyStake', caught: 'proxy' },
    { file: 'fees', from: 'contract.getOriginalBalance() - value', to: 'contract.getOriginalBalance()', caught: 'client' },
    // States.
    { file: 'client', from: 'assert (self.state != STATE_CLOSED) throw ERR_STATE;', to: '', caught: 'client' },
    { file: 'client', from: 'assert (client.state == STATE_NORMAL) throw ERR_STATE;', to: '', caught: 'client' },
    { file: 'client', from: 'assert (self.state == STATE_NORMAL) throw ERR_STATE;', to: '', caught: 'client' },
    { file: 'client', from: 'assert ((client.state != STATE_CLOSED) | (client.balance != 0)) throw ERR_STATE;', to: '', caught: 'client' },
    { file: 'worker', from: 'assert (worker.state != STATE_CLOSED) throw ERR_STATE;', to: '', caught: 'worker' },
    { file: 'proxy', from: 'assert (proxy.state == STATE_CLOSING) throw ERR_STATE;', to: '', caught: 'proxy' },
    { file: 'proxy', from: 'assert (self.state == STATE_NORMAL) throw ERR_STATE;', to: '', caught: 'proxy' },
    { file: 'proxy', from: 'assert (proxy.state != STATE_CLOSED) throw ERR_STATE;', to: '', caught: 'proxy' },
    // What makes these contracts stronger than the deployed ones.
    { file: 'client', from: 'max(0, self.balance - self.unconfirmed)', to: 'self.balance', caught: 'failures' },
    { file: 'client', from: 'client.unconfirmed -= payload.amount;', to: '', caught: 'failures' },
    { file: 'client', from: 'client.balance = max(0, client.balance - payload.amount);', to: '', caught: 'failures' },
    { file: 'client', from: 'client.balance += payload.amount;', to: '', caught: 'failures' },
    { file: 'client', from: 'client.balance += shortfall.amount;', to: '', caught: 'failures' },
    { file: 'client', from: 'client.reopenIfOwed();', to: '', caught: 'failures' },
    { file: 'client', from: 'self.unlockTs = blockchain.now() + network.clientDelayBeforeClose;', to: '', caught: 'failures' },
    { file: 'worker', from: 'worker.tokens -= (payload.workerPart + payload.proxyPart) / network.pricePerToken;', to: '', caught: 'failures' },
    { file: 'worker', from: 'worker.state = STATE_NORMAL;', to: '', caught: 'failures' },
    { file: 'proxy', from: 'assert (amount <= self.pool) throw', to: 'assert (amount <= self.pool + self.stake) throw', caught: 'failures' },
    { file: 'proxy', from: 'STORAGE_RESERVE + (self.pool > 0 ? self.pool + COMMISSION : 0)', to: 'STORAGE_RESERVE', caught: 'failures' },
    { file: 'proxy', from: 'self.stake + self.balance + self.pool + STORAGE_RESERVE', to: 'STORAGE_RESERVE', caught: 'failures' },
    { file: 'settling', from: 'if (released > 0) {', to: 'if (false) {', caught: 'worker' },
    { file: 'settling', from: 'reserve(STORAGE_RESERVE);', to: 'reserve(before);', caught: 'client' },
    { file: 'fees', from: 'SEND_MODE_CARRY_ALL_BALANCE | SEND_MODE_BOUNCE_ON_ACTION_FAIL', to: 'SEND_MODE_CARRY_ALL_BALANCE', caught: 'failures' },
    { file: 'fees', from: 'RESERVE_MODE_EXACT_AMOUNT | RESERVE_MODE_BOUNCE_ON_ACTION_FAIL', to: 'RESERVE_MODE_EXACT_AMOUNT', caught: 'failures' },
];

for (const { file, from, to, caught } of FAULTS) {
    test(`${file}: ${from.split('\n')[0]} -> ${to.split('\n')[0]}`, async () => {
        assert.ok(readSource(`${file}.tolk`).includes(from), 'the source no longer has this text');
        const build = mkdtempSync(join(tmpdir(), 'cocoon-fault-'));
        try {
            await plant(build, file, (source) => source.replaceAll(from, to));
            assert.equal(await firstResult(`tests/${caught}.test.ts`, build), 'failed');
        } finally {
            rmSync(build, { recursive: true });
        }
    });
}

/** Compiles all contracts into `build`, with one source file changed. */
async function plant(build: string, file: string, change: (source: string) => string) {
    const isShared = !CONTRACTS.some((name) => name === file);
    const read = (path: string) => (path === `${file}.tolk` ? change(readSource(path)) : readSource(path));
    for (const name of CONTRACTS) {
        const code = isShared || name === file ? toFile(await compile(name, read)) : readFileSync(committed(name));
        writeFileSync(join(build, `${name}.boc`), code);
    }
}

/** Runs a test file against the code in `build`, until the first of its tests fails. */
function firstResult(path: string, build: string): Promise<'failed' | 'passed' | 'broken'> {
    // This process is itself a test run, which its child must not know.
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const arguments_ = ['--import', 'tsx', '--test-reporter', 'tap', path];
    const child = spawn(process.execPath, arguments_, { cwd: FOLDER, env: { ...env, COCOON_CONTRACTS_BUILD: build } });
    return new Promise((resolve) => {
        let output = '';
        child.stdout.on('data', (data: Buffer) => {
            output += data.toString();
            if (/^ *not ok/m.test(output)) {
                child.kill();
                resolve('failed');
            }
        });
        child.on('close', (status) => resolve(status === 0 && /^ *ok/m.test(output) ? 'passed' : 'broken'));
    });
}
