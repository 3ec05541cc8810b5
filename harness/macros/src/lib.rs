//! The attribute of `podlab`'s own test runner; use it as `#[podlab::test]`.

use proc_macro::TokenStream;
use quote::quote;
use syn::parse::Nothing;
use syn::{Error, ItemFn, parse_macro_input};

/// Makes a function a test of the suite whose `main` is `podlab::suite!()`.
///
/// The function takes nothing, may be `async`, and returns `()` or a `Result`. It goes together
/// with `#[rstest]`, whose cases become one test each.
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    parse_macro_input!(arguments as Nothing);
    let function = parse_macro_input!(item as ItemFn);
    expand(&function).unwrap_or_else(|error| {
        let error = error.into_compile_error();
        quote!(#error #function).into()
    })
}

fn expand(function: &ItemFn) -> syn::Result<TokenStream> {
    let signature = &function.sig;
    if let Some(input) = signature.inputs.first() {
        let message = "a test takes no arguments; with #[rstest] above it they become cases";
        return Err(Error::new_spanned(input, message));
    }
    let name = &signature.ident;
    let call = match signature.asyncness {
        Some(_) => quote!(::podlab::suite::block_on(#name())),
        None => quote!(#name()),
    };
    Ok(quote! {
        #function

        const _: () = {
            fn run() -> ::podlab::suite::Outcome {
                ::podlab::suite::IntoOutcome::into_outcome(#call)
            }
            ::podlab::__private::inventory::submit! {
                ::podlab::suite::Test::new(::core::module_path!(), ::core::stringify!(#name), run)
            }
        };
    }
    .into())
}
