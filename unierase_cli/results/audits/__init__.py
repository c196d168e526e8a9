"""Tables and pictures of audits. Comes in: what audits found (``audit.findings``). Goes out: tables, Markdown, one picture."""
