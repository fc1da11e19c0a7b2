//! Who runs and waits for how much of a model: whether a client that finds no room has had more than its share.

use std::sync::Arc;

use ahash::HashMap;
use ton::Address;

/// Requests that run or wait, by model and by the client's account: the links of one account are one client.
#[derive(Debug, Default)]
pub(super) struct Shares {
    models: HashMap<Arc<str>, ModelShares>,
}

#[derive(Debug)]
struct ModelShares {
    name: Arc<str>,
    all: usize,
    /// Clients that have any.
    clients: HashMap<Address, usize>,
}

impl Shares {
    /// One request more. Returns the model's name, to end it with.
    pub(super) fn begin(&mut self, model: &str, client: Address) -> Arc<str> {
        if let Some(shares) = self.models.get_mut(model) {
            return shares.begin(client);
        }
        // A model stays while nobody asks for it, since most requests are for few models, and goes when another comes.
        self.models.retain(|_, shares| shares.all > 0);
        let name: Arc<str> = model.into();
        let shares = ModelShares { name: Arc::clone(&name), all: 0, clients: HashMap::default() };
        self.models.entry(name).or_insert(shares).begin(client)
    }

    /// One request less.
    pub(super) fn end(&mut self, model: &str, client: &Address) {
        let Some(shares) = self.models.get_mut(model) else { return };
        let Some(count) = shares.clients.get_mut(client) else { return };
        *count -= 1;
        if *count == 0 {
            shares.clients.remove(client);
        }
        shares.all -= 1;
    }

    /// Whether a client has more of a model than each would have if all that want it had the same. Whoever is alone
    /// has nobody to share with.
    pub(super) fn is_above(&self, model: &str, client: &Address) -> bool {
        let Some(shares) = self.models.get(model) else { return false };
        let (own, clients) = (shares.clients.get(client).copied().unwrap_or(0), shares.clients.len());
        clients > 1 && own.saturating_mul(clients) > shares.all
    }
}

impl ModelShares {
    fn begin(&mut self, client: Address) -> Arc<str> {
        self.all += 1;
        *self.clients.entry(client).or_default() += 1;
        Arc::clone(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Address = Address::new(0, [1; 32]);
    const OTHER: Address = Address::new(0, [2; 32]);

    #[test]
    fn a_share_is_of_one_model_and_equal_shares_are_no_more_than_that() {
        let mut shares = Shares::default();
        let begin = |shares: &mut Shares, model: &str, client, count| {
            (0..count).for_each(|_| assert_eq!(&*shares.begin(model, client), model));
        };
        begin(&mut shares, "a", ONE, 3);
        assert!(!shares.is_above("a", &ONE), "alone");
        begin(&mut shares, "a", OTHER, 3);
        assert!(!shares.is_above("a", &ONE) && !shares.is_above("a", &OTHER), "equal");
        begin(&mut shares, "a", OTHER, 1);
        assert!(!shares.is_above("a", &ONE) && shares.is_above("a", &OTHER));
        begin(&mut shares, "b", ONE, 9);
        assert!(!shares.is_above("a", &ONE) && !shares.is_above("b", &ONE), "another model");
        assert!(!shares.is_above("c", &ONE) && !shares.is_above("b", &OTHER));
        shares.end("a", &OTHER);
        assert!(!shares.is_above("a", &OTHER));
    }

    #[test]
    fn what_has_ended_leaves_nothing() {
        let mut shares = Shares::default();
        for number in 0..100 {
            let model = shares.begin(&format!("m{number}"), ONE);
            shares.end(&model, &ONE);
            shares.end(&model, &ONE);
            shares.end("never asked for", &ONE);
        }
        assert_eq!(shares.models.len(), 1);
        assert!(shares.models.values().all(|shares| shares.all == 0 && shares.clients.is_empty()));
    }
}
