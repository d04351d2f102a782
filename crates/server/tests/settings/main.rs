//! The settings as their users meet them.

#![cfg(test)]

mod database;
mod documents;
mod names;
mod report;
mod secrets;
mod sources;
mod spans;
mod values;
mod world;
