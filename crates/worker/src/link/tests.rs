//! What takes minutes in the world: polls and changes of the configuration, on a paused clock.

#![allow(unreachable_pub, dead_code, reason = "the scripted proxy is shared with the integration tests")]

use attest::Attestation;
use node::{OwnContract, RootFile};
use ton::Address;
use transport::{Link, LinkEvents, testing};
use units::{Coefficient, ImageHash, ModelName};

use super::handshake::HANDSHAKE_TIMEOUT;
use super::work::PAYMENT_POLL_INTERVAL;
use super::*;
use crate::backend::{Backend, HttpBackend};

#[path = "../../tests/support/proxy.rs"]
mod proxy;

use proxy::{Ask, ROOT, Said, ScriptedProxy};

/// A worker's half: what its links share, a model whose engine nobody asks, and the current configuration.
async fn worker(proxy: &ScriptedProxy) -> (Arc<Common>, Arc<Model>, Arc<Network>) {
    let network = Arc::new(Network::new(proxy.root.clone()).unwrap());
    let common = Common {
        party: ConnectingParty {
            owner: Address::new(0, [7; 32]),
            root: ROOT,
            is_testnet: false,
            contract: OwnContract::Worker,
        },
        network: Arc::new(watch::Sender::new(Arc::clone(&network))),
        accounts: Accounts::default(),
        stats: Arc::default(),
        connect: ConnectConfig::default(),
        root_source: Arc::new(RootSource::File(RootFile::new("root.json".into()))),
        proxy_connections: 1,
        checks_proxy_hashes: false,
        stop: CancellationToken::new(),
    };
    let backend = Backend::Http(HttpBackend::new("http://127.0.0.1:1".parse().unwrap()));
    let model = Model::new(ModelName::new("m").unwrap(), backend, Coefficient::ONE, 1);
    (Arc::new(common), Arc::new(model), network)
}

/// Runs a link of the worker until it ends.
async fn run(
    common: Arc<Common>,
    model: Arc<Model>,
    network: Arc<Network>,
    link: (Link, LinkEvents),
) -> LinkError {
    let (link, mut events) = link;
    let (session, announced) = shake_hands(&common, &model, &network, &link, &mut events).await.unwrap();
    work(&common, &model, &network, link, events, session, announced).await.0
}

#[tokio::test(start_paused = true)]
async fn a_worker_asks_where_its_account_stands_until_that_cannot_have_changed() {
    let proxy = ScriptedProxy::start().await;
    let (common, model, network) = worker(&proxy).await;
    let (ours, theirs) = testing::pair();
    let running = tokio::spawn(run(Arc::clone(&common), model, network, ours));
    let mut peer = proxy.shake_hands(theirs.0, theirs.1).await;
    // An earlier link may have earned something; then the proxy lags; then it does not.
    for status in [(0, 7), (5, 7), (7, 7)] {
        peer.status = status;
        let before = Instant::now();
        assert_eq!(peer.next().await, Said::PaymentPoll);
        let passed = before.elapsed();
        assert!(passed >= PAYMENT_POLL_INTERVAL.0 && passed <= PAYMENT_POLL_INTERVAL.1, "{passed:?}");
    }
    assert!(
        tokio::time::timeout(PAYMENT_POLL_INTERVAL.1 * 10, peer.next()).await.is_err(),
        "nothing has happened since"
    );
    // A request came, though of a model that this worker does not have.
    peer.ask(&Ask { coefficient: 1000, ..Ask::default() });
    assert!(matches!(peer.next().await, Said::Error { .. }));
    assert_eq!(peer.next().await, Said::PaymentPoll);
    assert!(tokio::time::timeout(PAYMENT_POLL_INTERVAL.1 * 10, peer.next()).await.is_err());
    common.stop.cancel();
    assert!(matches!(running.await.unwrap(), LinkError::Stopped));
    assert_eq!(peer.next().await, Said::Closed);
}

#[tokio::test(start_paused = true)]
async fn new_parameters_end_the_link_and_other_changes_do_not() {
    let proxy = ScriptedProxy::start().await;
    let (common, model, network) = worker(&proxy).await;
    let (ours, theirs) = testing::pair();
    let running = tokio::spawn(run(Arc::clone(&common), model, network, ours));
    let mut peer = proxy.shake_hands(theirs.0, theirs.1).await;

    let mut newer = proxy.root.clone();
    newer.last_proxy_seqno += 1;
    common.network.send_replace(Arc::new(Network::new(newer.clone()).unwrap()));
    assert_eq!(peer.next().await, Said::PaymentPoll);
    newer.params.params_version += 1;
    common.network.send_replace(Arc::new(Network::new(newer).unwrap()));
    assert_eq!(peer.next().await, Said::Closed);
    assert!(matches!(running.await.unwrap(), LinkError::ConfigurationChanged));
}

#[tokio::test(start_paused = true)]
async fn a_proxy_without_an_allowed_image_is_refused_where_images_are_checked() {
    let image = ImageHash::new([5; 32]);
    let attestation = Attestation { image, is_simulated: true };
    for (is_allowed, shown) in [(true, Some(attestation)), (false, Some(attestation)), (false, None)] {
        let mut proxy = ScriptedProxy::start().await;
        if is_allowed {
            proxy.root.proxy_hashes.insert(image);
        }
        let (common, model, network) = worker(&proxy).await;
        let mut common = Arc::into_inner(common).unwrap();
        common.checks_proxy_hashes = true;
        let server = testing::peer(None, shown);
        let ((link, mut events), theirs) = testing::pair_between(server, testing::peer(None, None));
        let ours = shake_hands(&common, &model, &network, &link, &mut events);
        tokio::select! {
            shaken = ours => match shaken {
                Ok(_) => assert!(is_allowed),
                Err(error) => {
                    assert!(!is_allowed);
                    match (error, shown) {
                        (LinkError::Proxy(ProxyError::NotAttested), None) => {}
                        (LinkError::Proxy(ProxyError::ImageNotAllowed { image }), Some(shown)) => {
                            assert_eq!(image, shown.image);
                        }
                        (error, _) => panic!("{error:?}"),
                    }
                }
            },
            _ = async { proxy.shake_hands(theirs.0, theirs.1).await; std::future::pending::<()>().await } => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_says_nothing_is_given_up() {
    let proxy = ScriptedProxy::start().await;
    let (common, model, network) = worker(&proxy).await;
    let ((link, mut events), _silent) = testing::pair();
    let before = Instant::now();
    let error = shake_hands(&common, &model, &network, &link, &mut events).await.err().unwrap();
    // The silence of the link or of the answer, whichever is noticed first.
    assert!(matches!(error, LinkError::Closed(_) | LinkError::Unanswered { .. }), "{error:?}");
    assert!(before.elapsed() <= HANDSHAKE_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_says_3_and_never_what_it_can_do_is_given_up() {
    let mut proxy = ScriptedProxy::start().await;
    (proxy.protocol, proxy.capabilities) = (3, None);
    let (common, model, network) = worker(&proxy).await;
    let ((link, mut events), theirs) = testing::pair();
    let ours = shake_hands(&common, &model, &network, &link, &mut events);
    let silent = async {
        let mut peer = proxy.shake_hands(theirs.0, theirs.1).await;
        loop {
            peer.next().await;
        }
    };
    tokio::select! {
        shaken = ours => {
            assert!(matches!(shaken.err(), Some(LinkError::Session(SessionError::NoCapabilities))));
        }
        () = silent => {}
    }
}
