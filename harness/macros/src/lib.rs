//! The attribute of `podlab`'s own test runner; use it as `#[podlab::test]`.

use proc_macro::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, ItemFn, LitStr, Token, bracketed, parse_macro_input, token};

/// Makes a function a test of the suite whose `main` is `podlab::suite!()`.
///
/// The function takes nothing, may be `async`, and returns `()` or a `Result`. It goes together
/// with `#[rstest]`, whose cases become one test each.
///
/// `#[podlab::test(needs = "netem")]`, or `needs = ["netem", "ipip"]`, names what not every kernel
/// has (`podlab::suite::Feature`). Where one is missing the test ends as a skip before it has
/// begun.
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let needs = parse_macro_input!(arguments as Needs);
    let function = parse_macro_input!(item as ItemFn);
    expand(&needs, &function).unwrap_or_else(|error| {
        let error = error.into_compile_error();
        quote!(#error #function).into()
    })
}

/// The names of features in `needs = "…"` or `needs = ["…", "…"]`, or nothing.
struct Needs(Vec<LitStr>);

impl Parse for Needs {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let key: syn::Ident = input.parse()?;
        if key != "needs" {
            return Err(Error::new_spanned(key, "only `needs` is known here"));
        }
        input.parse::<Token![=]>()?;
        if !input.peek(token::Bracket) {
            return Ok(Self(vec![input.parse()?]));
        }
        let list;
        bracketed!(list in input);
        let names =
            Punctuated::<LitStr, Token![,]>::parse_terminated_with(&list, |name| name.parse())?;
        Ok(Self(names.into_iter().collect()))
    }
}

fn expand(Needs(needs): &Needs, function: &ItemFn) -> syn::Result<TokenStream> {
    let signature = &function.sig;
    if let Some(input) = signature.inputs.first() {
        let message = "a test takes no arguments; with #[rstest] above it they become cases";
        return Err(Error::new_spanned(input, message));
    }
    let name = &signature.ident;
    let call = match signature.asyncness {
        Some(_) => quote!(::podlab::suite::run(#name())),
        None => quote!(::podlab::suite::IntoOutcome::into_outcome(#name())),
    };
    Ok(quote! {
        #function

        const _: () = {
            fn run() -> ::podlab::suite::Outcome {
                #call
            }
            ::podlab::__private::inventory::submit! {
                ::podlab::suite::Test::new(
                    ::core::module_path!(),
                    ::core::stringify!(#name),
                    &[#(::podlab::suite::Feature::named(#needs)),*],
                    run,
                )
            }
        };
    }
    .into())
}
