//! The settings as their users see them: sources, names, values, and what is printed.

#![cfg(test)]

mod authentication;
mod database;
mod documents;
mod names;
mod report;
mod secrets;
mod sources;
mod spans;
mod values;
mod world;
