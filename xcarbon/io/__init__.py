"""Readers and writers of files, with one module or folder per format.

- Tower files: ``fluxnet`` opens the files of the flux networks, ``networks`` recognises them by their
  names, ``records`` reads one file, ``towers`` joins the files of a tower, and ``aggregated`` reads daily
  to yearly files. ``columns`` and ``workbooks`` parse tables, and ``badm`` reads the metadata of towers.
- Satellites and maps: ``modis`` and ``hdf4``, ``satellite`` with ``appeears`` and ``composites``,
  ``landcover``.
- Stores: ``store`` (towers) and ``grid`` (grids), which are written by ``regions`` and ``drafts``.
  ``location`` is the place of a store, ``chunks`` opens it, and ``counts`` records its numbers of values.
- Other data: ``netcdf`` with ``handles``, ``era5``, ``carbonsense`` with ``unpickle``, and ``fetch`` for
  downloads.

``formats`` opens a file of any of these formats. This folder may import ``models``, ``prep`` and ``core``.
"""
