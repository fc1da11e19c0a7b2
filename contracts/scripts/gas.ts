// Writes GAS.md from a run of every operation.

import { writeFileSync } from 'node:fs';
import { gasPage, PAGE } from '../tests/support/gas.ts';

writeFileSync(PAGE, await gasPage());
