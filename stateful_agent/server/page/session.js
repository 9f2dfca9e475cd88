// What the page shows: one thread, at one checkpoint, and the turn that is at work on it. It talks to the server, and
// calls `changed` when something else is to be shown.

import * as address from "./address.js";
import * as api from "./api.js";
import { messagesByTurn, messagesOf } from "./messages.js";
import { apply, newRun } from "./run.js";
import { buildTree, choices, newestTip, pathTo, turnsOn } from "./tree.js";

const PAGE = 1000; // checkpoints that are asked for at once
const WATCH = 2500; // milliseconds between two looks at what others do on the thread
const LIST_EVERY = 6; // of these, one looks at all threads

export class Session {
  constructor(changed) {
    this.changed = changed;
    this.threads = { list: [], isComplete: false, error: null };
    this.isSaving = false;
    this.reset(null);
    this.opening = 0; // which of the views that were asked for is the newest
    addEventListener("popstate", () => this.open(address.read()));
    this.looks = 0;
    this.look = null;
    setInterval(() => document.visibilityState === "visible" && this.watch(), WATCH);
  }

  reset(threadId) {
    Object.assign(this, { threadId, thread: null, entries: [], tree: null, state: null, node: null });
    Object.assign(this, { path: [], turns: [], choices: [], run: null, error: null });
    Object.assign(this, { isLoading: false, isUnread: false, isPartial: false, isLost: false });
  }

  get isAtHead() {
    return !this.tree || this.node === this.tree.head;
  }

  // Why nothing can be begun now; empty if it can. What is begun goes on from what is shown, which must be settled.
  get busyWith() {
    if (this.run) return "A turn is at work";
    if (this.isSaving) return "A change is being saved";
    return this.isLoading ? "The thread is loading" : "";
  }

  // Show a thread at a checkpoint; without one, at its head; without a thread, a new conversation.
  async open({ threadId, checkpointId = null }) {
    const opening = ++this.opening;
    address.write({ threadId, checkpointId });
    if (!threadId || threadId !== this.threadId) this.reset(threadId);
    else if (this.run) this.run.isLeft = true;
    this.error = null;
    if (!threadId) return this.changed();
    this.isLoading = true;
    this.changed();
    try {
      await this.load(checkpointId, opening);
    } catch (error) {
      if (opening === this.opening) this.error = error;
    } finally {
      if (opening === this.opening) this.isLoading = false;
      this.changed();
    }
    if (opening === this.opening && this.thread?.running_response_id
      && !this.run) this.follow(this.thread.running_response_id);
  }

  async load(checkpointId, opening) {
    const { threadId } = this;
    const newest = this.entries[0]?.checkpoint_id;
    const limit = newest ? 100 : PAGE;
    this.isUnread = true;
    const [thread, found, page] = await Promise.all([
      api.getThread(threadId),
      api.getState(threadId, checkpointId),
      api.getHistory(threadId, limit),
    ]);
    if (opening !== this.opening) return;
    // Without a checkpoint it is the newest of the history: a turn may have gone on between these answers.
    const shown = checkpointId ?? page[0]?.checkpoint_id ?? null;
    const state = found.checkpoint_id === shown ? found : await api.getState(threadId, shown);
    if (opening !== this.opening) return;
    const goesOn = page.some((entry) => entry.checkpoint_id === newest);
    this.isPartial = goesOn ? this.isPartial : page.length === limit;
    Object.assign(this, { thread, state, entries: goesOn ? merged(page, this.entries) : page, isUnread: false });
    await this.arrange(opening);
    while (this.isPartial && opening === this.opening) {
      const older = await api.getHistory(threadId, PAGE, this.entries.at(-1).checkpoint_id);
      if (opening !== this.opening) return;
      this.entries = merged(this.entries, older);
      this.isPartial = older.length === PAGE;
      await this.arrange(opening);
    }
  }

  // Work out the tree, the path to what is shown, and the messages of its turns.
  async arrange(opening) {
    const tree = buildTree(this.entries);
    const node = tree.nodes.get(this.state.checkpoint_id);
    if (!node) return; // it is in an older page
    const path = pathTo(node);
    const stateAt = (id) => api.getState(this.threadId, id);
    const turns = await messagesByTurn(turnsOn(path), path, messagesOf(this.state.messages), stateAt);
    if (opening !== this.opening) return;
    Object.assign(this, { tree, node, path, turns, choices: choices(path), isLoading: false });
    this.changed();
  }

  reload() {
    return this.open({ threadId: this.threadId, checkpointId: this.isAtHead ? null : this.node?.id });
  }

  show(node) {
    return this.open({ threadId: this.threadId, checkpointId: node === this.tree.head ? null : node.id });
  }

  // Choose one of several versions: its newest branch.
  choose(node) {
    return this.show(newestTip(node));
  }

  // Take a turn. `from` is the checkpoint to go on from: what is shown, unless another is named.
  async send(input, { from = this.isAtHead ? null : this.node?.id, ...custom } = {}) {
    const custom_inputs = custom;
    if (this.threadId) custom_inputs.thread_id = this.threadId;
    if (from) custom_inputs.checkpoint_id = from;
    await this.take({ body: { input, custom_inputs } }, Array.isArray(input) ? null : input);
  }

  follow(responseId) {
    return this.take({ responseId }, null);
  }

  async take(what, question) {
    const run = newRun(question);
    const before = this.threadId;
    Object.assign(this, { run, error: null });
    this.changed();
    try {
      const onLost = (isLost) => Object.assign(this, { isLost: Boolean(isLost) }) && this.changed();
      for await (const event of api.turnEvents(what, onLost)) {
        apply(run, event);
        if (this.run !== run) return; // another thread is shown by now
        if (!this.threadId && run.outputs.thread_id) {
          this.threadId = run.outputs.thread_id;
          address.write({ threadId: this.threadId }, { replaces: true });
          this.listThreads();
        }
        this.soon();
      }
    } catch (error) {
      run.error = error;
    }
    if (this.run === run) await this.finish(run, before);
  }

  async finish(run, before) {
    const isUnsent = run.error && !run.responseId; // nothing of it is stored
    if (!isUnsent && !this.isLoading) {
      const opening = ++this.opening;
      const shown = this.isAtHead ? null : this.node.id;
      try {
        await this.load(run.isLeft ? shown : (run.outputs.checkpoint_id ?? shown), opening);
      } catch (error) {
        run.error ??= error;
      }
      if (this.run !== run) return; // another thread is shown by now
      const checkpointId = this.isAtHead ? null : this.node.id;
      if (opening === this.opening) {
        address.write({ threadId: this.threadId, checkpointId }, { replaces: before === null });
      }
    }
    this.run = null;
    this.isLost = false;
    this.error = run.error?.code === "cancelled"
      ? { message: "Stopped. What was stored until then is kept.", isExpected: true } : run.error;
    if (isUnsent && run.question !== null) this.unsent = run.question;
    this.changed();
    this.listThreads();
  }

  async stop() {
    if (!this.run?.responseId) return;
    this.run.isStopping = true;
    this.changed();
    await this.attempt(() => api.cancelRun(this.run.responseId));
  }

  // Change what is stored at a checkpoint, and show the outcome, unless something else is to be shown by then.
  async edit(checkpointId, change) {
    const { threadId, opening } = this;
    await this.save(async () => {
      const edited = await api.editState(threadId, { checkpoint_id: checkpointId, ...change });
      if (opening !== this.opening) return;
      await this.open({ threadId, checkpointId: edited.checkpoint_id });
      if (this.threadId === threadId && this.isAtHead) address.write({ threadId }, { replaces: true });
    });
  }

  async rename(title) {
    const { threadId } = this;
    await this.attempt(async () => {
      const thread = await api.renameThread(threadId, title);
      if (this.threadId === threadId) this.thread = thread;
      await this.listThreads();
    });
  }

  async copy() {
    await this.attempt(async () => {
      const { thread_id: threadId } = await api.copyThread(this.threadId);
      await this.listThreads();
      await this.open({ threadId });
    });
  }

  async remove() {
    const { threadId } = this;
    await this.save(async () => {
      await this.look; // it is of a thread that is still there
      await api.deleteThread(threadId);
      if (this.threadId === threadId) await this.open({ threadId: null });
      await this.listThreads();
    });
  }

  // Nothing else is begun meanwhile.
  async save(what) {
    this.isSaving = true;
    this.changed();
    await this.attempt(what);
    this.isSaving = false;
    this.changed();
  }

  async attempt(what) {
    this.error = null;
    try {
      await what();
    } catch (error) {
      this.error = error;
    }
    this.changed();
  }

  // The first threads, or those that come after what is listed.
  async listThreads({ more } = {}) {
    const { list } = this.threads;
    try {
      const page = await api.listThreads(30, more ? list.at(-1)?.updated_at : undefined);
      const known = new Set(page.map((thread) => thread.thread_id));
      const others = list.filter((thread) => !known.has(thread.thread_id));
      const all = more ? [...others, ...page] : page.length < 30
        ? page : [...page, ...others.filter((thread) => thread.updated_at < page.at(-1).updated_at)];
      this.threads = { list: all, isComplete: page.length < 30 || (!more && this.threads.isComplete), error: null };
    } catch (error) {
      this.threads = { ...this.threads, error };
    }
    this.changed();
  }

  // See what others have done meanwhile: other windows, other callers.
  async watch() {
    if (this.busyWith) return;
    if (this.looks++ % LIST_EVERY === 0) this.listThreads();
    const wasAway = this.isUnread && this.error?.status === 0;
    if (!this.thread && !wasAway) return;
    const { threadId } = this;
    this.look = api.getThread(threadId).catch((error) => ({ error }));
    const { error, ...now } = await this.look;
    if (this.busyWith || this.threadId !== threadId) return;
    if (error) return error.status === 404 && this.leave();
    if (wasAway) return this.open(address.read());
    if (now.running_response_id && this.isAtHead) return this.refreshAnd(() => this.follow(now.running_response_id));
    if (now.checkpoint_id !== (this.tree?.head?.id ?? null)) await this.refreshAnd(() => {});
  }

  // Somebody else has deleted the thread: what would be said now would begin another one of its name.
  leave() {
    this.open({ threadId: null });
    this.error = { message: "The thread is no longer there.", isExpected: true };
    this.listThreads();
  }

  async refreshAnd(next) {
    const opening = ++this.opening;
    const wasAtHead = this.isAtHead;
    await this.load(wasAtHead ? null : this.node.id, opening).catch(() => {}); // one looks again soon
    if (opening !== this.opening || this.busyWith) return;
    if (wasAtHead) address.write({ threadId: this.threadId }, { replaces: true });
    else address.write({ threadId: this.threadId, checkpointId: this.node.id }, { replaces: true });
    next();
  }

  // Tokens come faster than a screen can show them.
  soon() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.changed();
    });
  }
}

function merged(newer, older) {
  const known = new Set(newer.map((entry) => entry.checkpoint_id));
  return [...newer, ...older.filter((entry) => !known.has(entry.checkpoint_id))];
}
