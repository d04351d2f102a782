//! Other libraries over cenote. Each example says which; `README.md` says how to run them.
