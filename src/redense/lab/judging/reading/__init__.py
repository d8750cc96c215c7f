"""Reading tables of results, whoever wrote them: cells, tables, folders of comparisons."""
