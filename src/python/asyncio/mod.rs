//! asyncio around a poller: its selector, and the coroutines of callbacks.
//!
//! | file | holds |
//! |---|---|
//! | `turns` | the selector of the event loop, which runs the turns of a poller |
//! | `call_soon` | the method of the loop that gives the poller its turns between many callbacks |
//! | `lent` | the poller of a thread, on its way to a loop |
//! | `tasks`, `bridge` | a coroutine of a callback: its first step at once, the others as a task |

pub mod bridge;
pub mod call_soon;
pub mod lent;
pub mod tasks;
pub mod turns;
