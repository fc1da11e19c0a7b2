//! A root contract, and changes of it.

use cocoon_chain::outbox::{Order, OrderId};
use cocoon_chain::{ProviderError, RootNews, RootWatch, RootWatchError, Wallet};
use ton::getters::{GetRoot, GetterError, IsListed};
use ton::message::InternalMessage;
use ton::messages::RootMessage;
use ton::{Address, Contract, ContractCode, RootConfig, StructVersion};
use units::{ImageHash, NanoTon};

use crate::hostile::World;
use crate::sending::{key, state_init};

#[tokio::test]
async fn changes_of_the_root_contract_are_seen() {
    let world = World::new().await;
    let owner = state_init().address();
    world.give(&owner, 50_000_000_000);
    let (wallet, mut runner) = Wallet::open(world.provider(), key(), state_init(), None).unwrap();
    let mut config = RootConfig::pseudo(owner);
    // The only layout of params that contracts read.
    config.params.struct_version = StructVersion::V3;
    let init = config.init(ContractCode::built(Contract::Root));
    let root = init.address();
    let mut watch = RootWatch::new(root);
    let error = watch.look(&world.provider()).await.unwrap_err();
    assert!(matches!(error, RootWatchError::NoContract { .. }), "{error}");

    let mut orders = 0;
    let mut send = async |state_init, body| {
        orders += 1;
        let value = NanoTon::new(1_000_000_000);
        let message = InternalMessage { to: root, value, bounce: false, state_init, body };
        wallet.submit(Order { id: OrderId(orders), message }).unwrap();
        for _step in 0..2 {
            runner.step(|| world.now()).await.unwrap();
        }
        let outcome = wallet.outcome(OrderId(orders)).unwrap();
        assert!(outcome.is_done(), "{orders}: {outcome:?}");
    };
    send(Some(init), None).await;
    let news = watch.look(&world.provider()).await.unwrap();
    assert!(matches!(news, RootNews::Newer { params_changed: true, .. }), "{news:?}");
    assert_eq!(watch.look(&world.provider()).await.unwrap(), RootNews::Same);
    assert_eq!(cocoon_chain::clock::check(watch.block_time(), world.now()), Ok(()));

    let image = ImageHash::new([3; 32]);
    let add = RootMessage::AddProxyImage { query_id: 1, hash: image };
    send(None, Some(add.to_cell())).await;
    let RootNews::Newer { config, params_changed: false } = watch.look(&world.provider()).await.unwrap()
    else {
        panic!("an image is no param")
    };
    assert!(config.allows_proxy_image(&image));
    // The contract says the same itself.
    let provider = world.provider();
    assert_eq!(provider.getter(&root, &GetRoot).await.unwrap().version, config.version);
    assert!(provider.getter(&root, &IsListed::ProxyImage(image)).await.unwrap());
    assert!(!provider.getter(&root, &IsListed::WorkerImage(image)).await.unwrap());
    let error = provider.getter(&owner, &GetRoot).await.unwrap_err();
    let expected = GetterError::Failed { method: "get_cocoon_data", exit_code: 11 };
    assert!(matches!(&error, ProviderError::Getter { source, .. } if *source == expected), "{error:?}");

    let (price_per_token, worker_fee_per_token) = (NanoTon::new(7), NanoTon::new(5));
    let prices = RootMessage::SetPrices { query_id: 2, price_per_token, worker_fee_per_token };
    send(None, Some(prices.to_cell())).await;
    let RootNews::Newer { config, params_changed: true } = watch.look(&world.provider()).await.unwrap()
    else {
        panic!("prices are params")
    };
    assert_eq!(config.params.price_per_token, price_per_token);

    let mut astray = RootWatch::new(owner);
    let error = astray.look(&world.provider()).await.unwrap_err();
    assert!(matches!(error, RootWatchError::Data { .. }), "{error}");
    let mut astray = RootWatch::new(Address::new(0, [1; 32]));
    assert!(astray.look(&world.provider()).await.is_err());
}
