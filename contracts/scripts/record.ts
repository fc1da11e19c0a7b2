// Writes the transactions that the devnet's tests make again.

import { writeFileSync } from 'node:fs';
import { RECORD, record } from '../tests/support/record.ts';

writeFileSync(RECORD, await record());
