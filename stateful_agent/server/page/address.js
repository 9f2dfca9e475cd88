// The page's address: which thread and checkpoint are shown. A link opens the same view; back and forward work.

export function read() {
  const query = new URLSearchParams(location.search);
  return { threadId: query.get("thread"), checkpointId: query.get("checkpoint") };
}

export function write({ threadId, checkpointId }, { replaces } = {}) {
  const query = new URLSearchParams();
  if (threadId) query.set("thread", threadId);
  if (threadId && checkpointId) query.set("checkpoint", checkpointId);
  const address = query.size ? `?${query}` : location.pathname;
  if (address === (location.search || location.pathname)) return;
  history[replaces ? "replaceState" : "pushState"](null, "", address);
}
