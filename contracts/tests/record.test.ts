// The record that the devnet's tests replay is of the committed contracts.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { RECORD, record } from './support/record.ts';

test('the recorded transactions are what the contracts do', async () => {
    assert.ok((await record()).equals(readFileSync(RECORD)), 'run `npm run record`');
});
