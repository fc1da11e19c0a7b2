// What operations cost: as GAS.md says, and not more than the deployed contracts where it happens often.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { gasPage, measure, PAGE } from './support/gas.ts';
import { ton } from './support/world.ts';

test('GAS.md is what the contracts use', async () => {
    assert.equal(readFileSync(PAGE, 'utf8'), await gasPage(), 'run `npm run gas`');
});

test('no operation costs more than with the deployed contracts, and a charge or payout takes no more gas in any of them', async () => {
    for (const { operation, gas, fees, deployed } of await measure()) {
        if (deployed === undefined) continue;
        assert.ok(fees <= ton(deployed.fees), `${operation}: fees ${fees}`);
        if (!/charge|payout/.test(operation)) continue;
        gas.forEach(([name, used], i) => assert.ok(used <= deployed.gas[i]!, `${operation}: ${name} uses ${used}`));
    }
});
