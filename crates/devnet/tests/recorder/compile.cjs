// Compiles pilot.tolk to pilot.boc.
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const { runTolkCompiler } = require("@ton/tolk-js");

/** The code of the pilot, as a bag of cells. */
async function compile() {
    const compiled = await runTolkCompiler({
        entrypointFileName: "pilot.tolk",
        fsReadCallback: (name) => fs.readFileSync(path.join(__dirname, name), "utf8"),
    });
    if (compiled.status !== "ok") {
        throw new Error(compiled.message);
    }
    return Buffer.from(compiled.codeBoc64, "base64");
}

module.exports = { compile };

if (require.main === module) {
    compile().then((code) => fs.writeFileSync(path.join(__dirname, "pilot.boc"), code));
}
