// A few random lives; tests/long has many.

import { test } from 'node:test';
import { Life } from './support/lives.ts';

for (let seed = 1; seed <= 5; seed++) {
    test(`life ${seed}: the books agree, and everyone gets out`, () => Life.run(seed, 40));
}
