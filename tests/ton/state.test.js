// What a devnet has answered survives its death.
"use strict";
const assert = require("node:assert/strict");
const { mkdtempSync, rmSync } = require("node:fs");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { after, before, test } = require("node:test");
const { Address, toNano } = require("@ton/core");
const { Devnet } = require("./devnet.js");

const NOBODY = new Address(0, Buffer.alloc(32, 1));

let folder;
before(() => { folder = mkdtempSync(join(tmpdir(), "cocoon-devnet-")); });
after(() => { rmSync(folder, { recursive: true }); });

/** Whole tons: rent takes some nanotons. */
async function tons(devnet) {
    return Math.round(Number(await devnet.client.getBalance(NOBODY)) / 1e9);
}

test("killed again and again, it goes on with all that it answered", async () => {
    let given = 0;
    let seqno = 0;
    for (let life = 0; life < 5; life++) {
        const devnet = await Devnet.start("--instant", "--state", folder);
        assert.equal(await tons(devnet), given, `life ${life}`);
        const { latestSeqno } = await devnet.client.getMasterchainInfo();
        assert.ok(latestSeqno >= seqno);
        // Killed in the middle of the third: it may be there or not, as nobody was told.
        await devnet.give(NOBODY, toNano("1"));
        await devnet.give(NOBODY, toNano("1"));
        given += 2;
        seqno = latestSeqno + 2;
        const unheard = devnet.give(NOBODY, toNano("1")).then(() => true, () => false);
        devnet.process.kill("SIGKILL");
        await devnet.ended;
        given += (await unheard) ? 1 : await survived(given);
    }
});

/** What of the unanswered ton is there after all. */
async function survived(given) {
    const devnet = await Devnet.start("--instant", "--state", folder);
    const more = (await tons(devnet)) - given;
    assert.ok(more === 0 || more === 1, `${more} more`);
    await devnet.stop();
    return more;
}
