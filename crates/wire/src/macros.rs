//! From a declaration that reads like the schema to a type that reads and writes itself.
//!
//! A constructor is named as in `spec/wire.tl`; the constant that the build makes of it holds its id.

/// Declares a struct with the fields of one constructor, in wire order.
///
/// `#flags,` stands where the `#` field stands: before or after the plain fields. `@optional { bit => field }`, at
/// the end, lists the conditional ones. A bit that guards several fields has one entry, whose type is a struct
/// declared by this macro without a constructor. Flag bits without an entry are ignored, and written as 0.
macro_rules! tl_struct {
    (
        $(#[$meta:meta])*
        pub struct $name:ident $(<$lt:lifetime>)? $(= $($constructor:ident).+)? {
            #flags,
            $($(#[$field_meta:meta])* $field:ident: $ty:ty,)*
            $(@optional {
                $($(#[$option_meta:meta])* $bit:literal => $option:ident: $option_ty:ty,)*
            })?
        }
    ) => {
        tl_struct! {
            @expand [$(#[$meta])*] $name [$($lt)?] [$($($constructor).+)?]
            _flags [_flags]
            [$($(#[$field_meta])* $field: $ty,)*]
            []
            [$($($(#[$option_meta])* $bit => $option: $option_ty,)*)?]
        }
    };
    (
        $(#[$meta:meta])*
        pub struct $name:ident $(<$lt:lifetime>)? $(= $($constructor:ident).+)? {
            $($(#[$field_meta:meta])* $field:ident: $ty:ty,)*
        }
    ) => {
        tl_struct! {
            @expand [$(#[$meta])*] $name [$($lt)?] [$($($constructor).+)?]
            _flags []
            [$($(#[$field_meta])* $field: $ty,)*]
            []
            []
        }
    };
    (
        $(#[$meta:meta])*
        pub struct $name:ident $(<$lt:lifetime>)? $(= $($constructor:ident).+)? {
            $($(#[$field_meta:meta])* $field:ident: $ty:ty,)*
            #flags,
            @optional {
                $($(#[$option_meta:meta])* $bit:literal => $option:ident: $option_ty:ty,)*
            }
        }
    ) => {
        tl_struct! {
            @expand [$(#[$meta])*] $name [$($lt)?] [$($($constructor).+)?]
            _flags []
            [$($(#[$field_meta])* $field: $ty,)*]
            [_flags]
            [$($(#[$option_meta])* $bit => $option: $option_ty,)*]
        }
    };

    // `$flags` is a variable for the flags; it also stands in the one list, if any, that marks their place.
    (
        @expand [$($meta:tt)*] $name:ident [$($lt:lifetime)?] [$($($constructor:ident).+)?]
        $flags:ident [$($flags_before:ident)?]
        [$($(#[$field_meta:meta])* $field:ident: $ty:ty,)*]
        [$($flags_after:ident)?]
        [$($(#[$option_meta:meta])* $bit:literal => $option:ident: $option_ty:ty,)*]
    ) => {
        $($meta)*
        #[derive(Clone, PartialEq)]
        pub struct $name $(<$lt>)? {
            $($(#[$field_meta])* pub $field: $ty,)*
            $($(#[$option_meta])* pub $option: Option<$option_ty>,)*
        }

        impl<'a> $crate::codec::Read<'a> for $name $(<$lt>)? {
            const LEN_MIN: usize = 0 $(+ <$ty as $crate::codec::Read<'a>>::LEN_MIN)*;

            fn read(_input: &mut $crate::codec::Input<'a>) -> Result<Self, $crate::DecodeError> {
                $(let $flags_before = _input.flags()?;)?
                $(let $field = $crate::codec::Read::read(_input)?;)*
                $(let $flags_after = _input.flags()?;)?
                $(
                    let $option = if $flags >> $bit & 1 == 1 {
                        Some($crate::codec::Read::read(_input)?)
                    } else {
                        None
                    };
                )*
                Ok(Self { $($field,)* $($option,)* })
            }
        }

        impl $(<$lt>)? $crate::codec::Write for $name $(<$lt>)? {
            fn write(&self, _out: &mut impl $crate::codec::Sink) {
                let $flags = 0u32 $(| u32::from(self.$option.is_some()) << $bit)*;
                $($crate::codec::Write::write(&$flags_before, _out);)?
                $($crate::codec::Write::write(&self.$field, _out);)*
                $($crate::codec::Write::write(&$flags_after, _out);)?
                $(if let Some(option) = &self.$option { $crate::codec::Write::write(option, _out); })*
            }

            fn show(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(self, f)
            }
        }

        impl $(<$lt>)? std::fmt::Debug for $name $(<$lt>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))
                    $(.field(stringify!($field), &$crate::codec::Shown(&self.$field)))*
                    $(.field(stringify!($option), &$crate::codec::ShownOption(&self.$option)))*
                    .finish()
            }
        }

        tl_struct! { @boxed $name [$($lt)?] [$($($constructor).+)?] }
    };

    (@boxed $name:ident [$($lt:lifetime)?] []) => {};
    (@boxed $name:ident [$($lt:lifetime)?] [$($constructor:ident).+]) => {
        impl<'a> $crate::Decode<'a> for $name $(<$lt>)? {
            fn read_constructor(
                id: u32,
                input: &mut $crate::codec::Input<'a>,
            ) -> Result<Option<Self>, $crate::DecodeError> {
                match id {
                    $crate::schema::$($constructor)::+ => $crate::codec::Read::read(input).map(Some),
                    _ => Ok(None),
                }
            }
        }

        impl $(<$lt>)? $crate::Encode for $name $(<$lt>)? {
            fn write_boxed(&self, out: &mut impl $crate::codec::Sink) {
                $crate::codec::Write::write(&$crate::schema::$($constructor)::+, out);
                $crate::codec::Write::write(self, out);
            }
        }
    };
}

/// Declares an enum with one variant per constructor of a boxed type, fields included.
macro_rules! tl_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident $(<$lt:lifetime>)? {
            $(
                $(#[$variant_meta:meta])*
                $variant:ident = $ns:ident.$constructor:ident $({
                    $($(#[$field_meta:meta])* $field:ident: $ty:ty,)*
                })?,
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq)]
        pub enum $name $(<$lt>)? {
            $($(#[$variant_meta])* $variant $({ $($(#[$field_meta])* $field: $ty,)* })?,)*
        }

        impl<'a> $crate::Decode<'a> for $name $(<$lt>)? {
            fn read_constructor(
                id: u32,
                _input: &mut $crate::codec::Input<'a>,
            ) -> Result<Option<Self>, $crate::DecodeError> {
                match id {
                    $($crate::schema::$ns::$constructor => {
                        $($(let $field = $crate::codec::Read::read(_input)?;)*)?
                        Ok(Some(Self::$variant { $($($field,)*)? }))
                    })*
                    _ => Ok(None),
                }
            }
        }

        impl<'a> $crate::codec::Read<'a> for $name $(<$lt>)? {
            const LEN_MIN: usize = 4;

            fn read(input: &mut $crate::codec::Input<'a>) -> Result<Self, $crate::DecodeError> {
                $crate::codec::read_boxed(input)
            }
        }

        impl $(<$lt>)? $crate::codec::Write for $name $(<$lt>)? {
            fn write(&self, out: &mut impl $crate::codec::Sink) {
                match self {
                    $(Self::$variant { $($($field,)*)? } => {
                        $crate::codec::Write::write(&$crate::schema::$ns::$constructor, out);
                        $($($crate::codec::Write::write($field, out);)*)?
                    })*
                }
            }

            fn show(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(self, f)
            }
        }

        impl $(<$lt>)? $crate::Encode for $name $(<$lt>)? {
            fn write_boxed(&self, out: &mut impl $crate::codec::Sink) {
                $crate::codec::Write::write(self, out);
            }
        }

        impl $(<$lt>)? std::fmt::Debug for $name $(<$lt>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $(Self::$variant { $($($field,)*)? } => f
                        .debug_struct(stringify!($variant))
                        $($(.field(stringify!($field), &$crate::codec::Shown($field)))*)?
                        .finish(),)*
                }
            }
        }
    };
}

/// Declares an enum over objects that may stand in the same place, told apart by their ids.
macro_rules! tl_dispatch {
    (
        $(#[$meta:meta])*
        pub enum $name:ident $(<$lt:lifetime>)? {
            $($(#[$variant_meta:meta])* $variant:ident($ty:ty),)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $name $(<$lt>)? {
            $($(#[$variant_meta])* $variant($ty),)*
        }

        impl<'a> $crate::Decode<'a> for $name $(<$lt>)? {
            fn read_constructor(
                id: u32,
                input: &mut $crate::codec::Input<'a>,
            ) -> Result<Option<Self>, $crate::DecodeError> {
                $(if let Some(object) = <$ty as $crate::Decode<'a>>::read_constructor(id, input)? {
                    return Ok(Some(Self::$variant(object)));
                })*
                Ok(None)
            }
        }

        impl $(<$lt>)? $crate::Encode for $name $(<$lt>)? {
            fn write_boxed(&self, out: &mut impl $crate::codec::Sink) {
                match self {
                    $(Self::$variant(object) => $crate::Encode::write_boxed(object, out),)*
                }
            }
        }
    };
}

pub(crate) use {tl_dispatch, tl_enum, tl_struct};
