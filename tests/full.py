"""Whether tests run at full length: `make laws`, `make random` and `make modes` set JAXSEQ_LAWS=full."""

import os

FULL = os.environ.get("JAXSEQ_LAWS") == "full"
