"""dualtower: the retrieval stage of a recommender, from interaction logs to served candidates."""
