//! Get methods: questions to contracts, answered by the TVM without a transaction.

use ton::stack::{STACK_DEPTH_MAX, STACK_ITEMS_MAX, StackValue};
use tycho_types::cell::CellBuilder;
use tycho_types::dict::Dict;
use tycho_types::error::Error as CellError;
use tycho_types::models::ShardAccount;
use tycho_vm::{
    BehaviourModifiers, OwnedCellSlice, RcStackValue, SafeRc, Stack, StackValueType, VmCaller, VmGetterArgs,
    VmGetterError, VmGetterMethodId as _,
};

use crate::execute::Moment;
use crate::network_config::NetworkConfig;

/// What a get method answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetterAnswer {
    /// 0 or 1 for success.
    pub exit_code: i32,
    /// Gas it took, in units.
    pub gas_used: u64,
    /// The result, the top of the stack last.
    pub stack: Vec<StackValue>,
}

/// A question that cannot be asked, or whose answer cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum GetterError {
    /// The account has no code to run.
    #[error("the account is not active: it has no contract to ask")]
    NotActive,
    /// An account or argument in a form that does not exist.
    #[error("the account or an argument cannot be read")]
    Malformed(#[from] CellError),
    /// More values, or deeper tuples, than are passed in or out.
    #[error(
        "the stack holds more than {STACK_ITEMS_MAX} values or tuples deeper than {STACK_DEPTH_MAX}: ask for less at once"
    )]
    TooLarge,
}

/// The number under which a contract knows a method: its name's, as TON's compilers compute it.
#[must_use]
pub fn method_id(name: &str) -> u32 {
    name.as_getter_method_id()
}

/// Runs get method `method` of `account`, with at most a million units of gas, as public servers allow.
///
/// # Errors
/// [`GetterError`]; a method that fails is an answer with its exit code.
pub fn run_get_method(
    config: &NetworkConfig,
    moment: &Moment,
    account: &ShardAccount,
    method: u32,
    arguments: &[StackValue],
) -> Result<GetterAnswer, GetterError> {
    let account = account.load_account()?.ok_or(GetterError::NotActive)?;
    let caller = VmCaller {
        libraries: Dict::new(),
        behaviour_modifiers: BehaviourModifiers::default(),
        config: config.parsed().raw.params.clone(),
    };
    let mut args = VmGetterArgs::default();
    args.now = moment.unix_time;
    args.rand_seed.0 = moment.seed;
    let mut room = STACK_ITEMS_MAX;
    let stack = arguments.iter().map(|item| to_vm(item, &mut room, 0)).collect::<Result<_, _>>()?;
    let output = match caller.call_getter_ext(&account, method, stack, &args, None) {
        Ok(output) => output,
        Err(VmGetterError::NoCode) => return Err(GetterError::NotActive),
        Err(VmGetterError::InvalidConfig(error)) => return Err(error.into()),
    };
    let mut room = STACK_ITEMS_MAX;
    let stack = output.stack.iter().map(|value| from_vm(value, &mut room, 0)).collect::<Result<_, _>>()?;
    Ok(GetterAnswer { exit_code: output.exit_code, gas_used: output.gas_used, stack })
}

fn take(room: &mut usize, depth: usize) -> Result<(), GetterError> {
    *room = room.checked_sub(1).filter(|_| depth <= STACK_DEPTH_MAX).ok_or(GetterError::TooLarge)?;
    Ok(())
}

fn to_vm(item: &StackValue, room: &mut usize, depth: usize) -> Result<RcStackValue, GetterError> {
    take(room, depth)?;
    Ok(match item {
        StackValue::Null | StackValue::Continuation => Stack::make_null(),
        StackValue::NotANumber => Stack::make_nan(),
        StackValue::Number(number) => SafeRc::new_dyn_value(number.clone()),
        StackValue::Cell(cell) => SafeRc::new_dyn_value(cell.clone()),
        StackValue::Slice(cell) => SafeRc::new_dyn_value(OwnedCellSlice::new_allow_exotic(cell.clone())),
        StackValue::Builder(cell) => {
            let mut builder = CellBuilder::new();
            builder.store_slice(cell.as_slice()?)?;
            SafeRc::new_dyn_value(builder)
        }
        StackValue::Tuple(items) => {
            let items = items.iter().map(|item| to_vm(item, room, depth + 1));
            SafeRc::new_dyn_value(items.collect::<Result<Vec<_>, _>>()?)
        }
        StackValue::List(items) => {
            let mut rest = Stack::make_null();
            for item in items.iter().rev() {
                rest = SafeRc::new_dyn_value(vec![to_vm(item, room, depth + 1)?, rest]);
            }
            rest
        }
    })
}

fn from_vm(value: &RcStackValue, room: &mut usize, depth: usize) -> Result<StackValue, GetterError> {
    take(room, depth)?;
    let Some(kind) = StackValueType::from_raw(value.raw_ty()) else { return Ok(StackValue::Continuation) };
    Ok(match kind {
        StackValueType::Null => StackValue::Null,
        StackValueType::Int => match value.as_int() {
            Some(number) => StackValue::Number(number.clone()),
            None => StackValue::NotANumber,
        },
        StackValueType::Cell => {
            value.as_cell().map_or(StackValue::Null, |cell| StackValue::Cell(cell.clone()))
        }
        StackValueType::Slice => match value.as_cell_slice() {
            Some(slice) => StackValue::Slice(CellBuilder::build_from(slice.apply())?),
            None => StackValue::Null,
        },
        StackValueType::Builder => match value.as_cell_builder() {
            Some(builder) => StackValue::Builder(builder.clone().build()?),
            None => StackValue::Null,
        },
        StackValueType::Cont => StackValue::Continuation,
        StackValueType::Tuple => match list(value) {
            Some(items) => {
                let items = items.iter().map(|item| from_vm(item, room, depth + 1));
                StackValue::List(items.collect::<Result<_, _>>()?)
            }
            None => {
                let items = value.as_tuple().unwrap_or_default().iter();
                StackValue::Tuple(items.map(|item| from_vm(item, room, depth + 1)).collect::<Result<_, _>>()?)
            }
        },
    })
}

/// The values of a chain of pairs that ends with nothing, if it is not absurdly long.
fn list(value: &RcStackValue) -> Option<Vec<RcStackValue>> {
    let mut items = Vec::new();
    let mut rest = value.clone();
    while !rest.is_null() {
        let [first, next] = rest.as_tuple()? else { return None };
        if items.len() >= STACK_ITEMS_MAX {
            return None;
        }
        items.push(first.clone());
        let next = next.clone();
        rest = next;
    }
    Some(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Pace;
    use crate::devnet::Devnet;
    use crate::testing::{ONE, Pilot, START, body, devnet, empty, transfer};

    fn ask(devnet: &Devnet, pilot: &Pilot, method: &str, arguments: &[StackValue]) -> GetterAnswer {
        let (config, moment) = (devnet.config(), devnet.next_moment(START));
        let account = devnet.account(&pilot.address).unwrap();
        run_get_method(config, &moment, account, method_id(method), arguments).unwrap()
    }

    fn number(number: i64) -> StackValue {
        StackValue::Number(number.into())
    }

    #[test]
    fn methods_answer_with_every_kind_of_value() {
        let mut devnet = devnet(Pace::Instant);
        let pilot = Pilot::deployed(&mut devnet, 5);
        let answer = ask(&devnet, &pilot, "received", &[]);
        assert_eq!((answer.exit_code, answer.stack), (0, vec![number(5)]));
        assert!(answer.gas_used > 0);

        let cell = body(1, |_| {});
        let answer = ask(&devnet, &pilot, "kinds", &[number(-21), StackValue::Cell(cell.clone())]);
        let pair = StackValue::List(vec![number(-21)]);
        let expected =
            [number(-42), StackValue::Cell(cell.clone()), StackValue::Slice(cell), pair, StackValue::Null];
        assert_eq!(answer.stack, expected, "a pair of something and nothing is a list of one");
    }

    #[test]
    fn failures_are_answers() {
        let mut devnet = devnet(Pace::Instant);
        let pilot = Pilot::deployed(&mut devnet, 0);
        assert_eq!(ask(&devnet, &pilot, "failing", &[number(1234)]).exit_code, 1234);
        assert_eq!(ask(&devnet, &pilot, "nothing_like_it", &[]).exit_code, 11);
        assert_eq!(method_id("seqno"), 85143);
    }

    #[test]
    fn accounts_without_a_contract_have_no_methods() {
        let mut devnet = devnet(Pace::Instant);
        let nobody = ton::Address::new(0, [1; 32]);
        devnet.give(START, &nobody, ONE).unwrap();
        let account = devnet.account(&nobody).unwrap();
        let refused =
            run_get_method(devnet.config(), &devnet.next_moment(START), account, 0, &[]).unwrap_err();
        assert!(matches!(refused, GetterError::NotActive));
    }

    #[test]
    fn arguments_beyond_bounds_are_refused() {
        let mut devnet = devnet(Pace::Instant);
        let pilot = Pilot::deployed(&mut devnet, 0);
        let account = devnet.account(&pilot.address).unwrap();
        let run = |arguments: &[StackValue]| {
            run_get_method(
                devnet.config(),
                &devnet.next_moment(START),
                account,
                method_id("seqno"),
                arguments,
            )
        };
        let nested = |depth| (0..depth).fold(StackValue::Null, |inner, _| StackValue::Tuple(vec![inner]));
        assert!(run(&[nested(STACK_DEPTH_MAX)]).is_ok());
        assert!(matches!(run(&[nested(STACK_DEPTH_MAX + 1)]), Err(GetterError::TooLarge)));
        assert!(run(&vec![StackValue::Null; STACK_ITEMS_MAX - 1]).is_ok());
        assert!(matches!(run(&vec![StackValue::Null; STACK_ITEMS_MAX + 1]), Err(GetterError::TooLarge)));
    }

    #[test]
    fn every_kind_goes_in_and_out() {
        let cell = transfer(&ton::Address::new(0, [1; 32]), ONE, true, empty());
        let items = [
            StackValue::Null,
            StackValue::NotANumber,
            number(-1),
            StackValue::Cell(cell.clone()),
            StackValue::Slice(cell.clone()),
            StackValue::Builder(cell),
            StackValue::Tuple(vec![number(1), number(2), StackValue::Tuple(vec![])]),
            StackValue::List(vec![number(1), StackValue::List(vec![number(2), number(3)])]),
        ];
        for item in items {
            let mut room = STACK_ITEMS_MAX;
            let value = to_vm(&item, &mut room, 0).unwrap();
            assert_eq!(from_vm(&value, &mut room, 0).unwrap(), item);
        }
        // A tuple that holds another twice, which holds another twice, and so on.
        let mut value = to_vm(&number(1), &mut 1, 0).unwrap();
        for _ in 0..40 {
            value = SafeRc::new_dyn_value(vec![value.clone(), value.clone(), value]);
        }
        assert!(matches!(from_vm(&value, &mut STACK_ITEMS_MAX.clone(), 0), Err(GetterError::TooLarge)));
    }
}
