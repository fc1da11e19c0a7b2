//! Requests as tools write them, and answers as they read them.

use ton::Address;
use tower_service::Service as _;

use super::*;
use crate::block::Pace;
use crate::testing::{ONE, Pilot, START, devnet, empty, transfer};

struct Api {
    node: Node,
}

impl Api {
    fn new() -> Self {
        Self { node: Node::new(devnet(Pace::Instant), || START) }
    }

    async fn ask(&self, request: Request) -> (u16, Value) {
        let mut routes = router(self.node.clone()).merge(control_router(self.node.clone()));
        let response = routes.call(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 24).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.ask(Request::get(path).body(Body::empty()).unwrap()).await
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask(Request::post(path).body(Body::from(body.to_string())).unwrap()).await
    }

    async fn rpc(&self, method: &str, params: Value) -> Value {
        let request = json!({ "id": "1", "jsonrpc": "2.0", "method": method, "params": params });
        let (status, mut answer) = self.post("/api/v2/jsonRPC", &request).await;
        assert_eq!(
            (status, &answer["ok"], &answer["id"]),
            (200, &json!(true), &json!("1")),
            "{method}: {answer}"
        );
        answer["result"].take()
    }

    /// A pilot with a ton that has sent a tenth of it to nobody.
    async fn pilot(&self) -> (Pilot, Address) {
        let (pilot, nobody) = (Pilot::new(0), Address::new(0, [1; 32]));
        let gift = json!({ "address": pilot.address.to_string(), "nanotons": "1000000000" });
        assert_eq!(self.post("/faucet", &gift).await.0, 200);
        let gift = transfer(&nobody, NanoTon::new(100_000_000), false, empty());
        let boc = params::boc(&pilot.order(0, &[(1, gift)]).cell);
        assert_eq!(self.rpc("sendBoc", json!({ "boc": boc })).await["@type"], "ok");
        (pilot, nobody)
    }
}

#[tokio::test]
async fn one_method_answers_in_every_way_of_asking() {
    let api = Api::new();
    let (pilot, _nobody) = api.pilot().await;
    let address = pilot.address.to_string();
    let by_rpc = api.rpc("getAddressInformation", json!({ "address": address })).await;
    let (status, by_path) =
        api.get(&format!("/api/v2/getAddressInformation?address={}", address.replace(':', "%3A"))).await;
    assert_eq!((status, &by_path["result"]), (200, &by_rpc));
    let (_status, by_post) = api.post("/api/v2/getAddressInformation", &json!({ "address": address })).await;
    assert_eq!(by_post["result"], by_rpc);
    assert_eq!((&by_rpc["state"], by_rpc["code"].as_str().unwrap().is_empty()), (&json!("active"), false));
    assert_eq!(by_rpc["block_id"]["shard"], "-9223372036854775808");
    assert_eq!(api.get(&format!("/api/v2/getAddressState?address={address}")).await.1["result"], "active");
}

#[tokio::test]
async fn web_pages_have_no_faucet_and_move_no_clock() {
    let api = Api::new();
    let address = Pilot::new(0).address;
    for path in
        [format!("/faucet?address={}", address.to_string().replace(':', "%3A")), "/travel?seconds=60".into()]
    {
        let request = |origin: Option<&str>| {
            let request =
                origin.iter().fold(Request::post(&path), |request, origin| request.header("origin", *origin));
            request.body(Body::empty()).unwrap()
        };
        assert_eq!(api.ask(request(Some("https://evil.example"))).await.0, 403, "{path}");
        assert_eq!(api.ask(request(Some("null"))).await.0, 403, "{path}");
        assert_eq!(api.ask(request(None)).await.0, 200, "{path}");
    }
    let balance = api.rpc("getAddressBalance", json!({ "address": address.to_string() })).await;
    assert_eq!(balance, "10000000000", "one gift only");
}

#[tokio::test]
async fn transactions_are_listed_the_newest_first_and_from_where_asked() {
    let api = Api::new();
    let (pilot, nobody) = api.pilot().await;
    let address = pilot.address.to_string();
    let list = api.rpc("getTransactions", json!({ "address": address, "limit": 10 })).await;
    let [sent, given] = list.as_array().unwrap().as_slice() else { panic!("{list}") };
    assert_eq!(given["in_msg"]["value"], "1000000000");
    assert_eq!(given["in_msg"]["source"], params::address_text(&crate::FAUCET));
    assert_eq!((&sent["in_msg"]["source"], &sent["out_msgs"][0]["value"]), (&json!(""), &json!("100000000")));
    let fees = |name: &str| sent[name].as_str().unwrap().parse::<u64>().unwrap();
    assert_eq!(fees("fee"), fees("storage_fee") + fees("other_fee"));
    let left: u64 =
        api.rpc("getAddressBalance", json!({ "address": address })).await.as_str().unwrap().parse().unwrap();
    assert_eq!(1_000_000_000 - 100_000_000 - fees("fee"), left, "a fee is what is gone");

    let id = &given["transaction_id"];
    let from = json!({ "address": address, "lt": id["lt"], "hash": id["hash"] });
    assert_eq!(api.rpc("getTransactions", from).await, json!([given]));
    let until = json!({ "address": address, "to_lt": id["lt"] });
    assert_eq!(api.rpc("getTransactions", until).await, json!([sent]));
    for wrong in [
        json!({ "address": address, "lt": id["lt"], "hash": "00".repeat(32) }),
        json!({ "address": address, "lt": id["lt"] }),
        json!({ "address": address, "limit": 0 }),
        json!({ "address": address, "limit": 1001 }),
        json!({ "limit": 10 }),
    ] {
        let (status, answer) = api.post("/api/v2/getTransactions", &wrong).await;
        assert_eq!((status, &answer["ok"], &answer["code"]), (422, &json!(false), &json!(422)), "{wrong}");
    }

    let message = &sent["out_msgs"][0];
    let route =
        json!({ "source": address, "destination": nobody.to_string(), "created_lt": message["created_lt"] });
    assert_eq!(api.rpc("tryLocateSourceTx", route.clone()).await, *sent);
    let arrived = api.rpc("tryLocateResultTx", route).await;
    assert_eq!(arrived["in_msg"], *message);
    let elsewhere = json!({ "source": address, "destination": address, "created_lt": message["created_lt"] });
    assert_eq!(api.post("/api/v2/tryLocateResultTx", &elsewhere).await.0, 422);
    assert_eq!(api.post("/api/v2/tryLocateSourceTx", &elsewhere).await.0, 422);
}

#[tokio::test]
async fn blocks_are_found_by_number_time_and_logical_time() {
    let api = Api::new();
    let (pilot, _nobody) = api.pilot().await;
    let last = api.rpc("getMasterchainInfo", json!({})).await["last"].take();
    assert_eq!(last["seqno"], 3);
    let shard = api.rpc("shards", json!({ "seqno": 3 })).await["shards"][0].take();
    assert_eq!((&shard["workchain"], &shard["seqno"]), (&json!(0), &json!(3)));
    assert_ne!(shard["root_hash"], last["root_hash"]);
    let place = json!({ "workchain": 0, "shard": shard["shard"], "seqno": 3 });
    let listed = api.rpc("getBlockTransactions", place.clone()).await;
    assert_eq!((&listed["incomplete"], &listed["id"]), (&json!(false), &shard));
    assert_eq!(listed["transactions"].as_array().unwrap().len(), 2);
    assert_eq!(listed["transactions"][0]["account"], pilot.address.to_string());
    let mut page = place.clone();
    page["count"] = 1.into();
    let first = api.rpc("getBlockTransactions", page.clone()).await;
    assert_eq!(first["incomplete"], true);
    page["after_lt"] = first["transactions"][0]["lt"].clone();
    page["after_hash"] = hex::encode(pilot.address.hash()).into();
    let second = api.rpc("getBlockTransactions", page).await;
    assert_eq!(
        (&second["incomplete"], &second["transactions"][0]),
        (&json!(false), &listed["transactions"][1])
    );

    let header = api.rpc("getBlockHeader", place).await;
    assert_eq!((&header["global_id"], &header["prev_blocks"][0]["seqno"]), (&json!(-239), &json!(2)));
    let base = json!({ "workchain": 0, "shard": shard["shard"] });
    for (name, value) in
        [("seqno", json!(3)), ("lt", header["start_lt"].clone()), ("unixtime", header["gen_utime"].clone())]
    {
        let mut asked = base.clone();
        asked[name] = value;
        assert_eq!(api.rpc("lookupBlock", asked).await, shard, "{name}");
    }
    for (path, status) in [
        ("lookupBlock?workchain=0&shard=-9223372036854775808", 422),
        ("lookupBlock?workchain=0&shard=-9223372036854775808&seqno=4", 500),
        ("lookupBlock?workchain=7&shard=-9223372036854775808&seqno=3", 500),
        ("shards?seqno=99", 500),
        ("getBlockTransactions?workchain=0&shard=-9223372036854775808&seqno=3&count=1001", 422),
        ("getConfigParam?config_id=43", 422),
    ] {
        assert_eq!(api.get(&format!("/api/v2/{path}")).await.0, status, "{path}");
    }
    let param = api.rpc("getConfigParam", json!({ "config_id": 21 })).await;
    assert!(param["config"]["bytes"].as_str().unwrap().len() > 50);
}

#[tokio::test]
async fn contracts_are_asked_and_fees_estimated() {
    let api = Api::new();
    let (pilot, nobody) = api.pilot().await;
    let address = pilot.address.to_string();
    let ask = json!({ "address": address, "method": "seqno", "stack": [] });
    let answer = api.rpc("runGetMethod", ask).await;
    assert_eq!((&answer["exit_code"], &answer["stack"]), (&json!(0), &json!([["num", "0x1"]])));
    let ask = json!({ "address": address, "method": 85143 });
    assert_eq!(api.rpc("runGetMethod", ask).await["stack"], answer["stack"]);
    let ask = json!({ "address": nobody.to_string(), "method": "seqno", "stack": [] });
    assert_eq!(api.rpc("runGetMethod", ask).await["exit_code"], -13);
    let missing = json!({ "address": address, "stack": [] });
    assert_eq!(api.post("/api/v2/runGetMethod", &missing).await.0, 422);

    let body = tycho_types::cell::CellBuilder::build_from(1_u32).unwrap();
    let asked = json!({ "address": address, "body": params::boc(&body), "init_code": "", "init_data": "" });
    let fees = api.rpc("estimateFee", asked).await;
    assert!(fees["source_fees"]["gas_fee"].as_u64().unwrap() > 0, "{fees}");
}

#[tokio::test]
async fn what_is_refused_says_why_in_the_forms_of_the_api() {
    let api = Api::new();
    let (pilot, _nobody) = api.pilot().await;
    let boc = params::boc(&pilot.order(9, &[]).cell);
    let (status, answer) = api.post("/api/v2/sendBoc", &json!({ "boc": boc })).await;
    assert_eq!(status, 500);
    assert!(answer["error"].as_str().unwrap().contains("exit code 33"), "{answer}");
    let boc = params::boc(&pilot.order(1, &[]).cell);
    let hashes = api.rpc("sendBocReturnHash", json!({ "boc": boc })).await;
    assert!(hashes["hash"].is_string() && hashes["hash_norm"].is_string());

    let internal = params::boc(&transfer(&pilot.address, ONE, true, empty()));
    for (path, body, status) in [
        ("/api/v2/sendBoc", json!({ "boc": "nonsense" }), 422),
        ("/api/v2/sendBoc", json!({ "boc": internal }), 422),
        ("/api/v2/sendBoc", json!({}), 422),
        ("/api/v2/getAddressState", json!({ "address": "EQ" }), 422),
        ("/api/v2/noSuchMethod", json!({}), 404),
        ("/api/v2/jsonRPC", json!({ "id": 1 }), 422),
        ("/api/v2/jsonRPC", json!({ "id": 1, "method": "shards", "params": [] }), 422),
        ("/faucet", json!({ "address": pilot.address.to_string(), "nanotons": "18446744073709551615" }), 500),
        ("/travel", json!({ "seconds": -1 }), 422),
    ] {
        let (found, answer) = api.post(path, &body).await;
        assert_eq!((found, &answer["ok"]), (status, &json!(false)), "{path} {body}: {answer}");
        assert!(answer["error"].is_string() && answer["code"] == status);
    }
    let (status, answer) = api.ask(Request::post("/api/v2/jsonRPC").body(Body::from("{")).unwrap()).await;
    assert_eq!((status, &answer["ok"]), (422, &json!(false)));
    let long = Body::from("x".repeat(BODY_LEN_MAX + 1));
    assert_eq!(api.ask(Request::post("/api/v2/sendBoc").body(long).unwrap()).await.0, 413);
}

#[tokio::test]
async fn addresses_are_told_in_every_form() {
    let api = Api::new();
    let raw = "0:a7b3b6d84a9d22805bd2d70a5be70b198c2282575f4c0f9015cc8e04cb1b2753";
    let friendly = "EQCns7bYSp0igFvS1wpb5wsZjCKCV19MD5AVzI4EyxsnU73k";
    let detected = api.rpc("detectAddress", json!({ "address": friendly })).await;
    assert_eq!(
        (&detected["raw_form"], &detected["given_type"]),
        (&json!(raw), &json!("friendly_bounceable"))
    );
    assert_eq!(detected["bounceable"]["b64url"], friendly);
    assert_eq!(api.rpc("packAddress", json!({ "address": raw })).await, friendly);
    assert_eq!(api.rpc("unpackAddress", json!({ "address": friendly })).await, raw);
    let nobody = api.rpc("getExtendedAddressInformation", json!({ "address": raw })).await;
    assert_eq!(nobody["account_state"]["@type"], "uninited.accountState");
    let nobody = api.rpc("getWalletInformation", json!({ "address": raw })).await;
    assert_eq!((&nobody["wallet"], &nobody["balance"]), (&json!(false), &json!("0")));
}

#[tokio::test]
async fn a_message_as_deep_as_its_bytes_allow_does_no_harm() {
    let api = Api::new();
    let deep = (0..15_000).fold(empty(), |cell, _| {
        let mut builder = tycho_types::cell::CellBuilder::new();
        builder.store_reference(cell).unwrap();
        builder.build().unwrap()
    });
    let (status, answer) = api.post("/api/v2/sendBoc", &json!({ "boc": params::boc(&deep) })).await;
    assert_eq!(status, 422, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("15000 cells deep"), "{answer}");
}
