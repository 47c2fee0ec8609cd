//! Wire types, tarpc services and a client with causal context for the kv store.
