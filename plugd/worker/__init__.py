"""The plugin's side: the forkserver and what runs in a worker process."""
