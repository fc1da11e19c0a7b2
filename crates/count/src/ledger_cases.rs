//! A charge from its hold to its record.

use ledger::journal::{Bill, BillingKind};
use ledger::{ClientFunds, Ledger, Multipliers, PriceTable};
use ton::Address;
use units::{AdjustedTokens, NanoTon, RequestId};

use crate::{Case, Step};

pub(crate) const CASES: &[Case] = &[("ledger: reserve and post, 10000 clients", charge)];

const CLIENTS: u32 = 10_000;
const WORKERS: u32 = 1_000;

fn charge() -> Step {
    let prices = PriceTable::new(NanoTon::new(20), NanoTon::new(19), Multipliers::default());
    let mut ledger = Ledger::new(prices.expect("the fee is below the price"));
    let amount = NanoTon::new(4_000_000_000_000);
    let funds = ClientFunds { balance: amount, stake: amount, tokens_used: AdjustedTokens::ZERO };
    (0..CLIENTS).for_each(|client| ledger.open_client(address(client), funds));
    (0..WORKERS).for_each(|worker| ledger.open_worker(address(worker)));
    let mut number = 0_u32;
    Box::new(move || {
        number += 1;
        // One client after the other in no near order.
        let client = address(number.wrapping_mul(2_654_435_761) % CLIENTS);
        let hold = ledger.reserve(client, address(number % WORKERS), AdjustedTokens::new(5000));
        let items = [(BillingKind::Prompt, 800), (BillingKind::Completion, 300)];
        let bill = Bill { request: RequestId::new([9; 32]), items: &items };
        ledger
            .post(hold.expect("there are funds"), AdjustedTokens::new(1100), &bill)
            .expect("within the hold");
    })
}

fn address(number: u32) -> Address {
    let mut hash = [7; 32];
    hash[..4].copy_from_slice(&number.to_be_bytes());
    Address::new(0, hash)
}
