// Gas and fees of every operation, by the sandbox's default network prices.

import { join } from 'node:path';
import { fromNano, type Transaction } from '@ton/core';
import { FOLDER } from '../../scripts/compile.ts';
import { body, OP } from './cells.ts';
import { allFees, Client, CODES, gasUsed, on, ton, World, type AllCodes } from './world.ts';

export const PAGE = join(FOLDER, 'GAS.md');

export interface Row {
    operation: string;
    /** Gas of each contract in the order it ran; a notice without gas is left out. */
    gas: [contract: string, gas: bigint][];
    /** Everything the chain took, in nanotons, without the sender's wallet. */
    fees: bigint;
    /** What the deployed contracts take for the same, where it is known. */
    deployed?: { gas: bigint[]; fees: string };
}

/** The deployed contracts' gas for the same operations, contract by contract, and fees in TON. */
const DEPLOYED: Record<string, { gas: bigint[]; fees: string }> = {
    'client top-up': { gas: [8853n, 13164n], fees: '0.0125' },
    'client register': { gas: [11318n], fees: '0.0081' },
    'client change secret': { gas: [11603n], fees: '0.0083' },
    'client increase stake': { gas: [11857n], fees: '0.0082' },
    'client charge': { gas: [15937n], fees: '0.0107' },
    'client withdraw': { gas: [10577n, 14885n], fees: '0.0143' },
    'client refund request 1': { gas: [13792n], fees: '0.0090' },
    'client refund request 2 (forced)': { gas: [11142n, 15043n], fees: '0.0146' },
    'worker register': { gas: [6486n], fees: '0.0059' },
    'worker payout': { gas: [9401n, 13149n], fees: '0.0138' },
    'worker last payout': { gas: [9460n, 13149n], fees: '0.0138' },
    'proxy increase stake': { gas: [6438n], fees: '0.0053' },
    'proxy payout': { gas: [7535n], fees: '0.0061' },
    'proxy close': { gas: [8866n], fees: '0.0062' },
    'proxy close complete': { gas: [8960n], fees: '0.0071' },
};

export async function measure(codes: AllCodes = CODES): Promise<Row[]> {
    const world = await World.create({ codes });
    const client = await world.client('client');
    const worker = await world.worker('worker');
    const owner = client.owner.address;
    const rows: Row[] = [];
    const row = (operation: string, transactions: Transaction[]) => {
        const named: [string, bigint][] = [];
        for (const tx of transactions) {
            const name = on(tx, world.proxy) ? 'proxy' : on(tx, client.address) ? 'client' : on(tx, worker.address) ? 'worker' : '';
            const gas = tx.description.type === 'generic' && tx.description.computePhase.type === 'vm'
                ? tx.description.computePhase.gasUsed : 0n;
            if (name !== '' && gas > 0n) named.push([name, gas]);
        }
        rows.push({ operation, gas: named, fees: allFees(transactions), deployed: DEPLOYED[operation] });
    };
    const toClient = (op: number, fields: Parameters<typeof body>[2]) => client.send(body(op, 9n, fields), ton('0.7'));

    row('client top-up', await client.topUp(ton('10')));
    row('client register', await toClient(OP.clientRegister, (b) => b.storeUint(5, 64).storeAddress(owner)));
    row('client change secret', await toClient(OP.changeSecret, (b) => b.storeUint(5, 256).storeAddress(owner)));
    row('client change secret and top up', await client.send(
        body(OP.changeSecretAndTopUp, 9n, (b) => b.storeCoins(ton('10')).storeUint(6, 256).storeAddress(owner)), ton('10.7')));
    row('client increase stake', await toClient(OP.increaseClientStake, (b) => b.storeCoins(ton('2')).storeAddress(owner)));
    row('client charge', await client.land(OP.charge, 100_000_000n, ton('0.7')));
    row('client withdraw', await client.ask(OP.withdraw, ton('0.7')));
    row('worker register', await worker.send(body(OP.workerRegister, 9n, (b) => b.storeAddress(worker.owner.address)), ton('0.5')));
    row('worker payout', await worker.land(OP.workerPayout, 50_000_000n));
    row('worker last payout', await worker.land(OP.workerLastPayout, 100_000_000n));
    row('proxy increase stake', await world.increaseProxyStake(ton('1')));
    row('proxy payout', await world.send({
        from: world.proxyOwner, to: world.proxy, value: ton('0.2'),
        body: body(OP.ownerPayout, 9n, (b) => b.storeAddress(world.proxyOwner.address)),
    }));
    const others = async (operation: string, act: (other: Client) => Promise<Transaction[]>) => {
        const other = await world.client(operation);
        await other.topUp(ton('5'));
        const transactions = await act(other);
        const gas: Row['gas'] = [['client', gasUsed(transactions, other.address)], ['proxy', gasUsed(transactions, world.proxy)]];
        rows.push({ operation, gas, fees: allFees(transactions) });
    };
    await others('client refund request 1, above the stake', (other) => other.ask(OP.requestRefund, ton('0.7')));
    await others('client refund granted', (other) => other.land(OP.grantRefund, 1_000_000n, ton('0.7')));
    row('client refund request 1', await client.ask(OP.requestRefund, ton('0.7')));
    world.pass(world.params.clientDelay + 1);
    row('client refund request 2 (forced)', await client.ask(OP.requestRefund, ton('0.7')));
    row('proxy close', await world.close('signedClose'));
    world.pass(world.params.proxyDelay);
    row('proxy close complete', await world.close('completeClose'));
    return rows;
}

/** The page GAS.md. */
export async function gasPage(): Promise<string> {
    const lines = (await measure()).map(({ operation, gas, fees, deployed }) => {
        const ours = gas.map(([name, used]) => `${name} ${used}`).join('; ');
        const theirs = deployed?.gas.join('; ') ?? '';
        return `| ${operation} | ${ours} | ${fromNano(fees)} | ${theirs} | ${deployed?.fees ?? ''} |`;
    });
    return `# Gas and fees

Measured in \`@ton/sandbox\` with its default network prices; \`npm run gas\` writes this page and a test compares it. Fees are
what the network takes for the whole chain of messages, without the sender's wallet. The last two columns are what
the deployed contracts take for the same.

A top-up ends with the proxy contract telling the client contract that the money has arrived; that is its third figure.

| operation | gas | fees, TON | deployed: gas | fees, TON |
| --- | --- | --- | --- | --- |
${lines.join('\n')}
`;
}
