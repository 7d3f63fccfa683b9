"""Write the bases of the procedural 3DMM as .npz, for `synergy convert --morphable`.

python write_bases.py bases.npz
"""

from __future__ import annotations

import sys

import numpy as np

from synergy.synergy_model.synthetic.morphable_bases import procedural_morphable


def main() -> None:
    """The 68 landmarks' rows, the whole head's, and its triangles."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python write_bases.py bases.npz")
    dense = procedural_morphable()
    sparse = dense.sparse()
    np.savez(
        sys.argv[1],
        u_base=sparse.u_base, w_shp_base=sparse.w_shp_base, w_exp_base=sparse.w_exp_base,
        u=dense.u, w_shp=dense.w_shp, w_exp=dense.w_exp, triangles=dense.triangles,
    )  # fmt: skip


if __name__ == "__main__":
    main()
