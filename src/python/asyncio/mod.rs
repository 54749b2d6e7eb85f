//! asyncio around a poller: its selector, and the coroutines of callbacks.
//!
//! | file | holds |
//! |---|---|
//! | `turns` | the selector of the event loop, which runs the turns of a poller |
//! | `call_soon`, `ready`, `handle` | the method of the loop that schedules a callback; the callbacks in their order; one |
//! | `transports` | the hot paths of asyncio's socket transports |
//! | `lent` | the poller of a thread, on its way to a loop |
//! | `tasks`, `bridge` | a coroutine of a callback: its first step at once, the others as a task |

pub mod bridge;
pub mod call_soon;
pub mod handle;
pub mod lent;
pub mod ready;
pub mod tasks;
pub mod transports;
pub mod turns;
