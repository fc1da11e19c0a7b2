// A devnet as a process, on a free port, for the time of a test.
"use strict";
const { spawn } = require("node:child_process");
const { createInterface } = require("node:readline");
const { setTimeout: sleep } = require("node:timers/promises");
const { TonClient } = require("@ton/ton");

class Devnet {
    static async start(...flags) {
        const devnet = new Devnet();
        const program = process.env.COCOON_TEST_PROGRAM;
        devnet.process = spawn(program, ["devnet", "--listen", "127.0.0.1:0", ...flags], {
            stdio: ["ignore", "pipe", "inherit"],
        });
        devnet.ended = new Promise((resolve) => devnet.process.once("exit", resolve));
        for await (const line of createInterface({ input: devnet.process.stdout })) {
            const found = /http:\/\/[^/]+/.exec(line);
            if (found !== null) {
                devnet.url = found[0];
                break;
            }
        }
        devnet.client = new TonClient({ endpoint: `${devnet.url}/api/v2/jsonRPC` });
        return devnet;
    }

    /** Coins from the faucet. */
    async give(address, nanotons) {
        await this.post("/faucet", { address: address.toString(), nanotons: String(nanotons) });
    }

    async post(path, body) {
        const answer = await fetch(this.url + path, { method: "POST", body: JSON.stringify(body) });
        const { ok, result, error } = await answer.json();
        if (!ok) {
            throw new Error(error);
        }
        return result;
    }

    /** What `look` answers once that is something. */
    async until(look) {
        for (;;) {
            const seen = await look();
            if (seen) {
                return seen;
            }
            await sleep(20);
        }
    }

    /** Ctrl-C; the exit status. */
    async stop() {
        this.process.kill("SIGINT");
        return this.ended;
    }
}

module.exports = { Devnet };
