// Two hundred random lives.

import { test } from 'node:test';
import { Life } from '../support/lives.ts';

for (let seed = 1001; seed <= 1200; seed++) {
    test(`life ${seed}: the books agree, and everyone gets out`, () => Life.run(seed, 80));
}
