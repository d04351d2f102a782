//! The derive macro of `cenote-postgres`. Use it through the feature `derive` of that crate.
//!
//! Invariant: what it makes reads every field, or does not compile with an error at the field.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Code;
use quote::quote;
use syn::{
    Data, DeriveInput, Error, Field, Fields, GenericParam, LitStr, Member, Result, ext::IdentExt, parse_macro_input,
    parse_quote, spanned::Spanned,
};

/// Implements `cenote_postgres::FromRow` for a struct: each field from the column of its name, those of a tuple struct in the
/// order of the columns.
///
/// | Attribute of a field | The field is |
/// |---|---|
/// | `#[from_row(rename = "label")]` | the column `label` |
/// | `#[from_row(flatten)]` | read from the whole row by its own `FromRow` |
/// | `#[from_row(skip)]` | the default of its type |
#[proc_macro_derive(FromRow, attributes(from_row))]
pub fn from_row(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    implement(&input).unwrap_or_else(Error::into_compile_error).into()
}

/// Where the value of a field comes from.
enum Source {
    Column(LitStr),
    Position(usize),
    Row,
    Default,
}

fn implement(input: &DeriveInput) -> Result<Code> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new(input.ident.span(), "FromRow can be derived for structs"));
    };
    let mut generics = input.generics.clone();
    if let Some(lent) = generics.lifetimes().next() {
        let problem = "a row cannot lend to a value that outlives it; use owned types, such as String";
        return Err(Error::new(lent.span(), problem));
    }
    let is_generic = generics
        .params
        .iter()
        .any(|parameter| matches!(parameter, GenericParam::Type(_)));
    let mut values = Vec::new();
    let mut position = 0;
    for (index, field) in data.fields.iter().enumerate() {
        let source = source(field, matches!(data.fields, Fields::Unnamed(_)).then_some(position))?;
        let (value, bound) = read(&source, field);
        position += usize::from(matches!(source, Source::Position(_)));
        if is_generic {
            generics.make_where_clause().predicates.push(bound);
        }
        let member = match &field.ident {
            Some(name) => Member::Named(name.clone()),
            None => Member::from(index),
        };
        values.push(quote! { #member: #value });
    }
    let name = &input.ident;
    let (parameters, arguments, conditions) = generics.split_for_impl();
    Ok(quote! {
        impl #parameters ::cenote_postgres::FromRow for #name #arguments #conditions {
            fn from_row(row: &::cenote_postgres::tokio_postgres::Row) -> ::cenote_postgres::Result<Self> {
                ::core::result::Result::Ok(Self { #(#values),* })
            }
        }
    })
}

/// The code that reads a field, and what its type must fulfil.
fn read(source: &Source, field: &Field) -> (Code, syn::WherePredicate) {
    let kind = &field.ty;
    let from_sql = parse_quote! { #kind: ::cenote_postgres::tokio_postgres::types::FromSqlOwned };
    match source {
        Source::Column(column) => (quote! { row.try_get(#column)? }, from_sql),
        Source::Position(position) => (quote! { row.try_get(#position)? }, from_sql),
        Source::Row => (
            quote! { ::cenote_postgres::FromRow::from_row(row)? },
            parse_quote! { #kind: ::cenote_postgres::FromRow },
        ),
        Source::Default => (
            quote! { ::core::default::Default::default() },
            parse_quote! { #kind: ::core::default::Default },
        ),
    }
}

fn source(field: &Field, position: Option<usize>) -> Result<Source> {
    let mut chosen = None;
    for attribute in field
        .attrs
        .iter()
        .filter(|attribute| attribute.path().is_ident("from_row"))
    {
        attribute.parse_nested_meta(|meta| {
            let source = if meta.path.is_ident("rename") {
                Source::Column(meta.value()?.parse()?)
            } else if meta.path.is_ident("flatten") {
                Source::Row
            } else if meta.path.is_ident("skip") {
                Source::Default
            } else {
                return Err(meta.error("one of `rename = \"…\"`, `flatten` and `skip`"));
            };
            match chosen.replace(source) {
                None => Ok(()),
                Some(_) => Err(meta.error("only one of these at a field")),
            }
        })?;
    }
    Ok(match (chosen, position, &field.ident) {
        (Some(source), ..) => source,
        (None, Some(position), _) => Source::Position(position),
        (None, None, Some(name)) => Source::Column(LitStr::new(&name.unraw().to_string(), name.span())),
        (None, None, None) => return Err(Error::new(field.span(), "this field has no name and no position")),
    })
}
